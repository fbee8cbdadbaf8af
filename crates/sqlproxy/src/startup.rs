//! The beginning of a connection, in both directions: the only part of the protocol spoken here.
//!
//! PostgreSQL documentation, "Frontend/Backend Protocol": "Start-up", "SSL Session Encryption",
//! "Message Formats".

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::SessionError;
use crate::limits::{STARTUP_BYTES_MAX, STARTUP_PACKETS_MAX};

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// What a client wants; the packet as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Startup {
    /// A session. (Versions that the server does not know are the server's to refuse.)
    Session(Vec<u8>),
    /// To cancel what another session is doing.
    Cancel(Vec<u8>),
}

/// Reads the startup packet and nothing beyond it. Requests for encryption are answered with "no":
/// the port is a loopback one, and the way to the server is not the client's concern.
pub(crate) async fn read_startup(client: &mut TcpStream) -> Result<Startup, SessionError> {
    for _ in 0..STARTUP_PACKETS_MAX {
        let mut head = [0; 8];
        let gone = |_| SessionError::ClientGone;
        client.read_exact(&mut head).await.map_err(gone)?;
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if !(head.len()..=STARTUP_BYTES_MAX).contains(&length) {
            return Err(SessionError::Malformed);
        }
        let mut packet = head.to_vec();
        packet.resize(length, 0);
        let rest = &mut packet[head.len()..];
        client.read_exact(rest).await.map_err(gone)?;
        match u32::from_be_bytes([c0, c1, c2, c3]) {
            SSL_REQUEST | GSSENC_REQUEST if length == head.len() => {
                client.write_all(b"N").await.map_err(gone)?;
            }
            CANCEL_REQUEST => return Ok(Startup::Cancel(packet)),
            _ => return Ok(Startup::Session(packet)),
        }
    }
    Err(SessionError::Malformed)
}

/// A FATAL error for the client.
pub(crate) struct Fatal<'a> {
    /// SQLSTATE.
    pub code: &'a str,
    pub message: &'a str,
    pub detail: &'a str,
    pub hint: &'a str,
}

impl Fatal<'_> {
    /// The ErrorResponse message.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        for (kind, text) in [
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', self.code),
            (b'M', self.message),
            (b'D', self.detail),
            (b'H', self.hint),
        ] {
            if !text.is_empty() {
                fields.push(kind);
                // A NUL would end the field early.
                fields.extend(text.bytes().filter(|byte| *byte != 0));
                fields.push(0);
            }
        }
        fields.push(0);
        let length = u32::try_from(fields.len() + 4).unwrap_or(u32::MAX);
        let mut message = vec![b'E'];
        message.extend(length.to_be_bytes());
        message.extend(fields);
        message
    }
}

/// A field in the body of an ErrorResponse: `C` is the SQLSTATE, `M` the message, `R` the routine that
/// raised it.
pub(crate) fn field(body: &[u8], kind: u8) -> Option<&[u8]> {
    body.split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(&[kind]))
}

#[cfg(test)]
mod tests;
