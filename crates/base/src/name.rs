use std::fmt;
use std::sync::Arc;

/// The name of a server: 1 to 63 of `a-z`, `0-9` and `-`, not starting or ending with `-`
/// (a DNS label, RFC 1035 section 2.3.1, so that it fits certificates and host names).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(Arc<str>);

/// Why a text is not a server name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a server name: use 1 to 63 of a-z, 0-9 and -, not starting or ending with -"
)]
pub struct InvalidName {
    pub text: String,
}

impl ServerName {
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(label)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName {
                text: text.to_owned(),
            })
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_dns_labels_only() {
        for good in ["one", "web-1", "0", &"a".repeat(63)] {
            assert!(ServerName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "One", "a.b", "a_b", "ü", &"a".repeat(64)] {
            assert!(ServerName::new(bad).is_err(), "{bad}");
        }
    }
}
