//! Where one message of the server ends and the next begins.
//!
//! PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats": from the answer to the
//! startup packet on, a server sends nothing but messages of one byte (the type), four bytes (the length,
//! itself included), and the rest.

/// Follows the bytes that a client has been sent. Only the lengths are looked at.
#[derive(Debug, Default)]
pub(crate) struct Boundary {
    /// The first bytes of a header of which the rest is still to come.
    header: [u8; HEADER_BYTES],
    header_seen: usize,
    /// Of the message that the client is in the middle of.
    body_left: usize,
    /// It is another protocol.
    lost: bool,
}

const HEADER_BYTES: usize = 5;

impl Boundary {
    /// Takes the next bytes into account. Costs a few instructions for each message that begins in
    /// them, however long it is.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !self.lost && !bytes.is_empty() {
            if self.body_left > 0 {
                let skipped = self.body_left.min(bytes.len());
                self.body_left -= skipped;
                bytes = &bytes[skipped..];
            } else if let (0, Some((header, rest))) = (self.header_seen, bytes.split_first_chunk())
            {
                self.begin(*header);
                bytes = rest;
            } else {
                self.header[self.header_seen] = bytes[0];
                self.header_seen += 1;
                bytes = &bytes[1..];
                if self.header_seen == HEADER_BYTES {
                    self.header_seen = 0;
                    self.begin(self.header);
                }
            }
        }
    }

    /// Whether the client would take what comes now for the beginning of a message.
    pub fn is_between_messages(&self) -> bool {
        !self.lost && self.header_seen == 0 && self.body_left == 0
    }

    fn begin(&mut self, [_, l0, l1, l2, l3]: [u8; HEADER_BYTES]) {
        // The length is a signed number on the wire.
        let length = i32::from_be_bytes([l0, l1, l2, l3]);
        match usize::try_from(length).ok().and_then(|l| l.checked_sub(4)) {
            Some(body) => self.body_left = body,
            None => self.lost = true,
        }
    }
}

#[cfg(test)]
mod tests;
