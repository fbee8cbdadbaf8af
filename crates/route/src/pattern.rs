//! Path patterns of routes.

use std::fmt;
use std::str::FromStr;

use crate::path::normalise_path;

/// What a route's `path` says.
///
/// `/about` is exactly that path. `/assets/*` is `/assets`, `/assets/` and everything below, but not
/// `/assets2`. `/*` is everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// A normal path.
    Exact(String),
    /// A normal path without its trailing slash: `/assets` for `/assets/*`, empty for `/*`.
    Prefix(String),
}

/// Why a route's path is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a path pattern: {problem}; write `/exact`, `/prefix/*` or `/*`")]
pub struct InvalidPattern {
    pattern: String,
    problem: String,
}

impl PathPattern {
    /// Whether a normal path is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => is_under(path, prefix),
        }
    }

    /// The part that [`crate::strip_prefix`] may take off for what stands behind the route: the
    /// prefix, or nothing for an exact path.
    pub fn prefix(&self) -> &str {
        match self {
            Self::Exact(_) => "",
            Self::Prefix(prefix) => prefix,
        }
    }
}

pub(crate) fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(pattern: &str) -> Result<Self, InvalidPattern> {
        let invalid = |problem: String| InvalidPattern {
            pattern: pattern.to_owned(),
            problem,
        };
        let (path, prefix) = match pattern.strip_suffix("/*") {
            Some("") => return Ok(Self::Prefix(String::new())),
            Some(path) => (path, true),
            None => (pattern, false),
        };
        if path.contains('*') {
            return Err(invalid(
                "`*` may stand only at the end, after a slash".into(),
            ));
        }
        if path.contains('?') || path.contains('#') {
            return Err(invalid("a path has no query and no fragment".into()));
        }
        // A pattern that requests could never match would be a trap, hence only the normal form.
        let normal = normalise_path(path).map_err(|e| invalid(e.to_string()))?;
        if normal != path {
            return Err(invalid(format!("its normal form is `{normal}`")));
        }
        if prefix && path.ends_with('/') {
            return Err(invalid("it has an empty segment".into()));
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

#[cfg(test)]
mod tests;
