//! Cuts a stream of bytes into lines of bounded length.

use crate::limits::LOG_LINE_BYTES_MAX;

#[derive(Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Passes on every line that is complete, without its `\n` or `\r\n`, and pieces of one that is
    /// longer than [`LOG_LINE_BYTES_MAX`].
    pub(super) fn push(&mut self, bytes: &[u8], emit: &mut impl FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let (mut piece, ends) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            while self.partial.len() + piece.len() > LOG_LINE_BYTES_MAX {
                let (now, later) = piece.split_at(LOG_LINE_BYTES_MAX - self.partial.len());
                self.partial.extend_from_slice(now);
                piece = later;
                emit(&self.partial);
                self.partial.clear();
            }
            self.partial.extend_from_slice(piece);
            if ends {
                emit(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial));
                self.partial.clear();
            }
        }
    }

    /// Passes on what has no end yet.
    pub(super) fn flush(&mut self, emit: &mut impl FnMut(&[u8])) {
        if self.has_partial() {
            emit(&self.partial);
            self.partial.clear();
        }
    }

    pub(super) fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }
}
