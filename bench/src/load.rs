//! The load generator: one thread, one epoll loop, keep-alive connections with one request in flight
//! on each. The stub backend runs in the same loop. Every response is checked.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::time::ClockId;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::RecvFlags;

use crate::cpu::CpuClocks;
use crate::signals::Signals;
use crate::stub::Stub;

const BUFFER_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 256;
/// A server that answers nothing for so long fails the run.
const STALL: Duration = Duration::from_secs(10);

/// What to ask, and what must come back.
pub struct Job {
    pub target: SocketAddr,
    pub path: &'static str,
    pub body: Vec<u8>,
    pub connections: usize,
    pub warmup: Duration,
    pub measure: Duration,
}

/// What one turn of one server gave.
pub struct Measured {
    pub requests: u64,
    pub wall: Duration,
    /// CPU time of the server's processes.
    pub server_cpu: Duration,
    /// CPU time of generator and backend.
    pub load_cpu: Duration,
    /// One per request, in nanoseconds, sorted.
    pub latencies_ns: Vec<u32>,
}

/// Waits until the server gives one right answer. `alive` is asked between tries.
pub fn await_ready(
    job: &Job,
    stub: &mut Stub,
    signals: &Signals,
    mut alive: impl FnMut() -> Result<()>,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        alive()?;
        signals.check()?;
        let one = |stub| -> Result<()> {
            let mut looper = Loop::new(job, stub, signals)?;
            looper.connect()?;
            while looper.answered == 0 {
                looper.turn(|_| Ok(Step::Continue))?;
            }
            Ok(())
        };
        match one(stub) {
            Ok(()) => return Ok(()),
            Err(e) if Instant::now() > deadline => return Err(e).context("never became ready"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Warm-up, then the measured time, over `job.connections` connections.
pub fn run(job: &Job, stub: &mut Stub, server: &CpuClocks, signals: &Signals) -> Result<Measured> {
    let own = ClockId::CLOCK_THREAD_CPUTIME_ID;
    let mut looper = Loop::new(job, stub, signals)?;
    for _ in 0..job.connections {
        looper.connect()?;
    }
    // Room for 250,000 requests per second, so that the vector does not move while we measure.
    let room = (job.measure.as_secs_f64() * 250_000.0) as usize;
    let mut latencies_ns = Vec::with_capacity(room);

    let warm = Instant::now() + job.warmup;
    looper.turns(|done| {
        Ok(if done.at >= warm {
            Step::Stop
        } else {
            Step::Continue
        })
    })?;

    let cpu_before = (server.read()?, Duration::from(own.now()?));
    let start = Instant::now();
    let end = start + job.measure;
    let mut last = start;
    looper.turns(|done| {
        latencies_ns.push(u32::try_from(done.latency.as_nanos()).unwrap_or(u32::MAX));
        last = done.at;
        Ok(if done.at >= end {
            Step::Stop
        } else {
            Step::Continue
        })
    })?;
    let cpu_after = (server.read()?, Duration::from(own.now()?));

    latencies_ns.sort_unstable();
    Ok(Measured {
        requests: latencies_ns.len() as u64,
        wall: last - start,
        server_cpu: cpu_after.0 - cpu_before.0,
        load_cpu: cpu_after.1 - cpu_before.1,
        latencies_ns,
    })
}

/// A response that arrived whole and right.
struct Done {
    at: Instant,
    latency: Duration,
}

#[derive(PartialEq, Eq)]
enum Step {
    Continue,
    Stop,
}

struct Loop<'a> {
    job: &'a Job,
    stub: &'a mut Stub,
    signals: &'a Signals,
    epoll: OwnedFd,
    clients: Vec<Client>,
    request: Vec<u8>,
    buffer: Vec<u8>,
    events: Vec<Event>,
    answered: u64,
    last_answer: Instant,
}

struct Client {
    stream: TcpStream,
    sent: Instant,
    state: State,
    /// One whole body has been compared on this connection.
    compared: bool,
}

enum State {
    /// Bytes of an unfinished head.
    Head(Vec<u8>),
    /// Bytes of the body already here.
    Body(usize),
}

/// Who an epoll event is for, in the upper half of its 64 bits.
const CLIENT: u64 = 0;
const STUB: u64 = 1;
const LISTENER: u64 = 2;
const SIGNAL: u64 = 3;

impl<'a> Loop<'a> {
    fn new(job: &'a Job, stub: &'a mut Stub, signals: &'a Signals) -> Result<Self> {
        stub.reset();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        watch(&epoll, stub.listener(), LISTENER, 0)?;
        watch(&epoll, signals, SIGNAL, 0)?;
        Ok(Self {
            request: format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: trilith-bench\r\nAccept: */*\r\n\r\n",
                job.path,
                crate::servers::HOST
            )
            .into_bytes(),
            job,
            stub,
            signals,
            epoll,
            clients: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            events: Vec::with_capacity(EVENTS_MAX),
            answered: 0,
            last_answer: Instant::now(),
        })
    }

    /// Opens a connection and sends its first request.
    fn connect(&mut self) -> Result<()> {
        let stream = TcpStream::connect(self.job.target)
            .with_context(|| format!("cannot connect to {}", self.job.target))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        watch(&self.epoll, &stream, CLIENT, self.clients.len())?;
        let mut client = Client {
            stream,
            sent: Instant::now(),
            state: State::Head(Vec::new()),
            compared: false,
        };
        client.send(&self.request)?;
        self.clients.push(client);
        Ok(())
    }

    /// Turns until `each` says stop.
    fn turns(&mut self, mut each: impl FnMut(Done) -> Result<Step>) -> Result<()> {
        while self.turn(&mut each)? == Step::Continue {}
        Ok(())
    }

    /// One round of waiting for events and handling them all. `each` sees every right response.
    fn turn(&mut self, mut each: impl FnMut(Done) -> Result<Step>) -> Result<Step> {
        let mut events = std::mem::take(&mut self.events);
        let second = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&second)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e).context("epoll_wait"),
        }
        if events.is_empty() && self.last_answer.elapsed() > STALL {
            bail!(
                "no answer from {} for {} s",
                self.job.target,
                STALL.as_secs()
            );
        }
        let mut step = Step::Continue;
        for event in events.drain(..) {
            let token = event.data.u64();
            let index = (token & u64::from(u32::MAX)) as usize;
            match token >> 32 {
                CLIENT => {
                    let client = &mut self.clients[index];
                    if let Some(done) = client.ready(&mut self.buffer, &self.job.body)? {
                        self.answered += 1;
                        self.last_answer = done.at;
                        if each(done)? == Step::Stop {
                            step = Step::Stop;
                        }
                        client.send(&self.request)?;
                    }
                }
                STUB => self.stub.ready(index, &mut self.buffer)?,
                LISTENER => {
                    while let Some((index, stream)) = self.stub.accept()? {
                        watch(&self.epoll, stream, STUB, index)?;
                    }
                }
                _ => self.signals.check()?,
            }
        }
        self.events = events;
        Ok(step)
    }
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, kind: u64, index: usize) -> Result<()> {
    let data = EventData::new_u64(kind << 32 | index as u64);
    epoll::add(epoll, fd, data, EventFlags::IN).context("epoll_ctl")
}

impl Client {
    fn send(&mut self, request: &[u8]) -> Result<()> {
        // The socket's send buffer is empty: it takes a small request whole.
        let n = self
            .stream
            .write(request)
            .context("cannot send a request")?;
        ensure!(
            n == request.len(),
            "a request of {} bytes was sent in part",
            request.len()
        );
        Ok(())
    }

    /// Reads once. A result when that completes the response; the next request may be sent then,
    /// and its time starts now.
    fn ready(&mut self, buffer: &mut [u8], body: &[u8]) -> Result<Option<Done>> {
        let have = match &self.state {
            // The rest of a large body need not be copied: its length is what counts. (tcp(7):
            // MSG_TRUNC discards the bytes.) The first one on each connection is compared whole.
            State::Body(have) if self.compared => {
                let want = (body.len() - have).min(buffer.len());
                match rustix::net::recv(&self.stream, &mut buffer[..want], RecvFlags::TRUNC) {
                    Ok((_, 0)) => bail!("the server closed the connection within a body"),
                    Ok((_, n)) => have + n,
                    Err(rustix::io::Errno::AGAIN) => return Ok(None),
                    Err(e) => return Err(e).context("cannot read a response"),
                }
            }
            _ => {
                let n = match self.stream.read(buffer) {
                    Ok(0) => bail!("the server closed a keep-alive connection"),
                    Ok(n) => n,
                    Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                    Err(e) => return Err(e).context("cannot read a response"),
                };
                match self.accept(&buffer[..n], body)? {
                    Some(have) => have,
                    None => return Ok(None),
                }
            }
        };
        if have < body.len() {
            self.state = State::Body(have);
            return Ok(None);
        }
        self.compared = true;
        self.state = State::Head(Vec::new());
        let at = Instant::now();
        let latency = at - self.sent;
        self.sent = at;
        Ok(Some(Done { at, latency }))
    }

    /// Takes copied bytes: gives how much of the body is here, or nothing while the head is not whole.
    fn accept(&mut self, bytes: &[u8], body: &[u8]) -> Result<Option<usize>> {
        let (before, part) = match &mut self.state {
            State::Body(have) => (*have, bytes),
            State::Head(head) if head.is_empty() => match head_end(bytes) {
                Some(end) => {
                    check_head(&bytes[..end], body.len())?;
                    (0, &bytes[end..])
                }
                None => {
                    head.extend_from_slice(bytes);
                    return Ok(None);
                }
            },
            State::Head(head) => {
                head.extend_from_slice(bytes);
                ensure!(
                    head.len() < 64 * 1024,
                    "a response head of more than 64 KiB"
                );
                let Some(end) = head_end(head) else {
                    return Ok(None);
                };
                check_head(&head[..end], body.len())?;
                // `bytes` ends where `head` ends.
                (0, &bytes[bytes.len() - (head.len() - end)..])
            }
        };
        let have = before + part.len();
        ensure!(
            body.get(before..have) == Some(part),
            "a response body is not what was asked for (at byte {before})"
        );
        Ok(Some(have))
    }
}

/// The index behind the empty line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Status 200 and the length we expect.
fn check_head(head: &[u8], body_len: usize) -> Result<()> {
    let length = head.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        line[..colon]
            .eq_ignore_ascii_case(b"content-length")
            .then(|| line[colon + 1..].trim_ascii())
    });
    let right = head.starts_with(b"HTTP/1.1 200 ")
        && length.is_some_and(|digits| {
            std::str::from_utf8(digits)
                .ok()
                .and_then(|text| text.parse().ok())
                == Some(body_len)
        });
    ensure!(
        right,
        "expected status 200 with {body_len} bytes, got: {}",
        String::from_utf8_lossy(head).trim_end()
    );
    Ok(())
}

#[cfg(test)]
mod tests;
