//! Texts that are checked once and carried as types afterwards.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostics::quoted;

/// Why a text is not what it should be, in words for the file's author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidValue {
    /// What is wrong, short enough to stand beside a caret.
    pub problem: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl InvalidValue {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            help: None,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_type! {
    /// A process type of the code base, as a Procfile names it: 1 to 63 of `A-Z`, `a-z`, `0-9`,
    /// `_` and `-`.
    AppName
}

text_type! {
    /// The name of an `[[upstream]]`: 1 to 63 of `A-Z`, `a-z`, `0-9`, `_` and `-`.
    UpstreamName
}

text_type! {
    /// A DNS name (RFC 1123 section 2.1) or an IPv4 address: lower case, no port, no final dot.
    HostName
}

text_type! {
    /// A relative path that stays in the code base: no `..`, not absolute. `.` is all of it.
    CodePath
}

text_type! {
    /// An absolute path to request, perhaps with a query: begins with `/`, visible ASCII.
    UrlPath
}

/// Which paths a route is for. The most specific pattern of a site wins: exact, then the longest
/// prefix. Displays as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathPattern {
    /// This path only.
    Exact(String),
    /// Without its slash at the end: `/assets` for `/assets/*`, empty for `/*`. Means `/assets`
    /// and all below it.
    Prefix(String),
}

/// Status of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RedirectStatus {
    MovedPermanently = 301,
    Found = 302,
    SeeOther = 303,
    TemporaryRedirect = 307,
    PermanentRedirect = 308,
}

impl AppName {
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        check_name(text, "an app").map(|()| Self(text.into()))
    }
}

impl UpstreamName {
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        check_name(text, "an upstream").map(|()| Self(text.into()))
    }
}

impl HostName {
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        let plain = "write the host name alone, such as \"www.example.com\"";
        if text.is_empty() {
            return Err(InvalidValue::new("a host name cannot be empty").help(plain));
        }
        if text.contains("://") || text.contains('/') {
            return Err(InvalidValue::new("this is a URL, not a host name").help(plain));
        }
        if text.contains('*') {
            return Err(
                InvalidValue::new("wildcard host names are not available yet")
                    .help("write one `[[site]]` for each host name"),
            );
        }
        if let Some((host, port)) = text.rsplit_once(':')
            && port.bytes().all(|b| b.is_ascii_digit())
            && !host.contains(':')
        {
            return Err(InvalidValue::new("a host name has no port")
                .help("the ports of all sites are `http` and `https` in `[ports]`"));
        }
        if let Some(dotless) = text.strip_suffix('.') {
            return Err(InvalidValue::new("a host name has no dot at its end")
                .help(format!("write \"{}\"", quotable(dotless))));
        }
        if !text.is_ascii() {
            return Err(
                InvalidValue::new("only ASCII letters may stand in a host name")
                    .help("write the international name in its `xn--` form"),
            );
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > 253 || !text.split('.').all(label) {
            return Err(
                InvalidValue::new(format!("{} is not a host name", quoted(text))).help(
                    "a host name is parts of a-z, 0-9 and - with dots between them, such as \
                 \"www.example.com\"",
                ),
            );
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl CodePath {
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        let relative = "write a path relative to the code base, such as \"public\"";
        if text.is_empty() {
            return Err(InvalidValue::new("a path cannot be empty").help(
                "write \".\" for the whole code base, or a folder in it such as \"public\"",
            ));
        }
        if text.starts_with('/') {
            return Err(InvalidValue::new("this path is absolute").help(relative));
        }
        if text.contains('\0') {
            return Err(InvalidValue::new("a path cannot contain a zero byte"));
        }
        if text.split('/').any(|part| part == "..") {
            return Err(InvalidValue::new("`..` would leave the code base").help(relative));
        }
        Ok(Self(text.into()))
    }

    pub fn as_path(&self) -> &Path {
        Path::new(&*self.0)
    }
}

impl UrlPath {
    /// `/`.
    pub fn root() -> Self {
        Self("/".into())
    }

    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        if !text.starts_with('/') {
            return Err(InvalidValue::new("a path begins with `/`")
                .help(format!("write \"/{}\"", quotable(url_path_of(text)))));
        }
        if text.contains('#') {
            return Err(InvalidValue::new("a request has no fragment (`#`)"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(
                InvalidValue::new("only visible ASCII may stand in a request's path")
                    .help("percent-encode the rest, such as %20 for a space"),
            );
        }
        Ok(Self(text.into()))
    }
}

impl PathPattern {
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        let forms = "write \"/exact\", \"/prefix/*\", or \"/*\" for everything";
        if text == "*" {
            return Err(InvalidValue::new("a path begins with `/`").help("write \"/*\""));
        }
        if !text.starts_with('/') {
            return Err(InvalidValue::new("a path begins with `/`")
                .help(format!("write \"/{}\"", quotable(url_path_of(text)))));
        }
        let (path, prefix) = match text.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if let Some(folder) = path.strip_suffix('*').filter(|_| !path.contains("/*")) {
            let folder = folder.trim_end_matches('*');
            return Err(InvalidValue::new("`*` needs a slash before it")
                .help(format!("write \"{}/*\"", quotable(folder))));
        }
        if path.contains('*') {
            return Err(InvalidValue::new("`*` may stand only at the end").help(forms));
        }
        if path.contains(['?', '#']) {
            return Err(InvalidValue::new("a path has no query and no fragment")
                .help("leave out `?` or `#` and what follows"));
        }
        if path.contains('%') {
            return Err(InvalidValue::new("a pattern is not percent-encoded")
                .help("write the characters themselves; requests are decoded before matching"));
        }
        if path.contains('\\') || path.chars().any(char::is_control) {
            return Err(InvalidValue::new("no request's path has this character").help(forms));
        }
        if path.contains("//") || prefix && path.ends_with('/') {
            return Err(InvalidValue::new("a pattern has no `//`")
                .help("write one slash; requests with several are matched as if they had one"));
        }
        if path.split('/').any(|part| part == "." || part == "..") {
            return Err(InvalidValue::new("a pattern has no `.` or `..` part")
                .help("requests with them are resolved before matching"));
        }
        let path = path.to_owned();
        Ok(if prefix {
            Self::Prefix(path)
        } else {
            Self::Exact(path)
        })
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}/*"),
        }
    }
}

impl RedirectStatus {
    pub const ALL: [Self; 5] = [
        Self::MovedPermanently,
        Self::Found,
        Self::SeeOther,
        Self::TemporaryRedirect,
        Self::PermanentRedirect,
    ];

    pub const fn code(self) -> u16 {
        self as u16
    }

    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| u64::from(status.code()) == code)
    }
}

fn check_name(text: &str, of: &str) -> Result<(), InvalidValue> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if (1..=63).contains(&text.len()) && text.bytes().all(good) {
        Ok(())
    } else {
        Err(
            InvalidValue::new(format!("{} is not a name for {of}", quoted(text)))
                .help("use 1 to 63 of A-Z, a-z, 0-9, `_` and `-`"),
        )
    }
}

/// The path of something that may be a whole URL, without the first slash.
fn url_path_of(text: &str) -> &str {
    match text.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => text,
    }
}

/// For a suggestion: at most a line of it, and nothing that TOML would want escaped.
fn quotable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() && !matches!(c, '"' | '\\'))
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests;
