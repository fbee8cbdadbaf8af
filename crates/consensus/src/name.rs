use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::limits::KEY_BYTES_MAX;

/// The name of an entry or of a lease: parts of `a-z A-Z 0-9 . : _ -`, separated by `/`, such as
/// `config/current` or `vip/10.0.0.100`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// Why a text is not a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a key of the store: use 1 to 256 of a-z, A-Z, 0-9, `.`, `:`, `_`, `-`, in parts separated by `/`"
)]
pub struct InvalidKey {
    pub text: String,
}

impl Key {
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        let part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b".:_-".contains(&b))
        };
        if text.len() > KEY_BYTES_MAX || !text.split('/').all(part) {
            return Err(InvalidKey {
                text: text.chars().take(KEY_BYTES_MAX).collect(),
            });
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}
