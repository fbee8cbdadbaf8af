//! Buffers lent to connections while they have something in them.
//!
//! An idle connection holds none: thousands of idle keep-alive clients cost their sockets, not 16 KiB
//! each. Lending is per thread, so it takes no lock.

use std::cell::RefCell;

use bytes::BytesMut;

use crate::limits::{BUFFER_BYTES_KEPT_MAX, BUFFERS_KEPT, READ_BYTES};

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Gives `buffer` room for [`READ_BYTES`] if it has none at all.
pub(crate) fn lend(buffer: &mut BytesMut) {
    if buffer.capacity() == 0 {
        *buffer = SPARE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES));
    }
}

/// Takes the memory of an empty buffer back. One that is not empty keeps it.
pub(crate) fn take_back(buffer: &mut BytesMut) {
    if !buffer.is_empty() || buffer.capacity() == 0 {
        return;
    }
    let mut spare = std::mem::take(buffer);
    // Reclaims what was consumed at the front; fails while somebody holds a part of the memory.
    if spare.try_reclaim(READ_BYTES) && spare.capacity() <= BUFFER_BYTES_KEPT_MAX {
        SPARE.with_borrow_mut(|buffers| {
            if buffers.len() < BUFFERS_KEPT {
                buffers.push(spare);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_memory_comes_back() {
        let mut buffer = BytesMut::new();
        lend(&mut buffer);
        assert!(buffer.capacity() >= READ_BYTES);
        buffer.extend_from_slice(b"hello");
        take_back(&mut buffer);
        assert_eq!(&buffer[..], b"hello", "not while there is something in it");
        let address = buffer.as_ptr();
        let whole = buffer.split();
        drop(whole);
        take_back(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        lend(&mut buffer);
        assert_eq!(buffer.as_ptr(), address);
    }

    #[test]
    fn memory_that_is_still_read_is_not_lent_again() {
        let mut buffer = BytesMut::new();
        lend(&mut buffer);
        buffer.extend_from_slice(b"body");
        let held = buffer.split().freeze();
        take_back(&mut buffer);
        lend(&mut buffer);
        buffer.extend_from_slice(b"next");
        assert_eq!(held, "body");
    }
}
