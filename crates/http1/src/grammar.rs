//! The few rules of RFC 9110 section 5.6 that reading and writing share.

/// `token`: what field names, methods and protocol names are made of (RFC 9110 section 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_token_byte(*b))
}

pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Control characters, which no field value may hold (RFC 9110 section 5.5). The tab is none here.
pub(crate) const fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// The bytes a request target is made of: what the URI grammar has (RFC 3986) without the fragment,
/// and the visible characters that browsers send as they are (`|`, `"`, `{`).
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| is_target_byte(*b))
}

pub(crate) const fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// `OWS`: the white space around a field value that is not part of it (RFC 9110 section 5.6.3).
pub(crate) const fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};
