//! Finds the end of a head without parsing it, and refuses line ends that two parsers could read
//! differently.

use http::StatusCode;

use crate::ParseError;

/// Remembers how far a head has been looked at: bytes that come one by one are looked at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadScan {
    scanned: usize,
    /// Where the line being scanned starts.
    line: usize,
}

impl HeadScan {
    /// The length of the head with its final empty line, once `bytes` holds all of it.
    ///
    /// `bytes` must start with what earlier calls were given.
    ///
    /// # Errors
    /// A CR without LF or an LF without CR (RFC 9112 section 2.2 lets a recipient guess; guessing
    /// is how requests are smuggled), a NUL, or more than `bytes_max` bytes without an end.
    pub(crate) fn find_end(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
    ) -> Result<Option<usize>, ParseError> {
        let window = &bytes[..bytes.len().min(bytes_max)];
        while let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &window[self.scanned..]) {
            let at = self.scanned + found;
            match window[at] {
                b'\r' => match window.get(at + 1) {
                    Some(b'\n') => {
                        let empty = at == self.line;
                        self.scanned = at + 2;
                        self.line = self.scanned;
                        if empty {
                            return Ok(Some(self.scanned));
                        }
                    }
                    Some(_) => return Err(ParseError::bad("CR without LF")),
                    None => {
                        self.scanned = at;
                        return Self::incomplete(bytes, bytes_max);
                    }
                },
                b'\n' => return Err(ParseError::bad("LF without CR")),
                _ => return Err(ParseError::bad("NUL in a head")),
            }
        }
        self.scanned = window.len();
        Self::incomplete(bytes, bytes_max)
    }

    /// Whether the end of the first line has not been seen.
    pub(crate) fn in_first_line(&self) -> bool {
        self.line == 0
    }

    fn incomplete(bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, ParseError> {
        if bytes.len() < bytes_max {
            return Ok(None);
        }
        Err(ParseError::with_status(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the head is longer than allowed",
        ))
    }
}

#[cfg(test)]
mod tests;
