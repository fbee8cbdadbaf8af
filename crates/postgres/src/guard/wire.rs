//! What a guard is told, and how it waits for it. The guard of the floating addresses speaks the same.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use trilith_base::BootTime;

/// Every message has this size. Writes of up to `PIPE_BUF` bytes arrive whole (pipe(7)), so a message
/// is never torn.
pub const MESSAGE_BYTES: usize = 8;

const NO_DEADLINE: u64 = 0;
const END: u64 = 1;

/// In a pipe: nanoseconds since boot, little endian. 0 and 1, which no deadline is, stand for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// There is nothing to guard now.
    NoDeadline,
    Deadline(BootTime),
    /// The guard is not needed any more.
    End,
}

impl From<Option<BootTime>> for Message {
    fn from(deadline: Option<BootTime>) -> Self {
        deadline.map_or(Self::NoDeadline, Self::Deadline)
    }
}

impl Message {
    pub fn encode(self) -> [u8; MESSAGE_BYTES] {
        let nanos = match self {
            Self::NoDeadline => NO_DEADLINE,
            Self::End => END,
            Self::Deadline(at) => u64::try_from(at.0.as_nanos())
                .unwrap_or(u64::MAX)
                .max(END + 1),
        };
        nanos.to_le_bytes()
    }

    pub fn decode(message: [u8; MESSAGE_BYTES]) -> Self {
        match u64::from_le_bytes(message) {
            NO_DEADLINE => Self::NoDeadline,
            END => Self::End,
            nanos => Self::Deadline(BootTime(Duration::from_nanos(nanos))),
        }
    }

    /// The last one of those that were read at once: it is the only one that counts.
    pub fn last(read: &[u8]) -> Option<Self> {
        let (messages, _) = read.as_chunks::<MESSAGE_BYTES>();
        messages.last().copied().map(Self::decode)
    }
}

/// Whether there is something to read in `pipe`, or its end has come, before `at_most` has passed.
/// A signal ends the wait early.
pub fn wait_readable(pipe: impl AsFd, at_most: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
    match poll(&mut fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
