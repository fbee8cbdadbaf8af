//! Finding PostgreSQL's programs. They come from the distribution; Trilith brings none.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::BinariesError;
use crate::limits::MAJOR_VERSION_MIN;

/// A folder with `postgres`, `initdb` and `pg_basebackup` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub dir: PathBuf,
    /// 15, 16, ...
    pub major: u32,
    /// As printed by `postgres --version`, such as `15.18`.
    pub version: String,
}

const PROGRAMS: [&str; 3] = ["postgres", "initdb", "pg_basebackup"];

/// Where distributions put each version in a folder of its own: parent, and prefix of the version
/// (Debian and its kin; the RPMs of the PostgreSQL project).
const LAYOUTS: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// Finds the programs: in `explicit` if given, else the newest version in the usual places
/// (`/usr/lib/postgresql/*/bin`, `/usr/pgsql-*/bin`), else in `PATH`.
pub fn find_bin_dir(explicit: Option<&Path>) -> Result<Binaries, BinariesError> {
    find(explicit, None)
}

/// The same, with a preference for the version that a data directory needs.
pub(crate) fn find(
    explicit: Option<&Path>,
    preferred_major: Option<u32>,
) -> Result<Binaries, BinariesError> {
    if let Some(dir) = explicit {
        return examine(dir);
    }
    let layouts = LAYOUTS.map(|(parent, prefix)| (Path::new(parent), prefix));
    search(&layouts, env::var_os("PATH"), preferred_major)
}

fn search(
    layouts: &[(&Path, &str)],
    path: Option<OsString>,
    preferred_major: Option<u32>,
) -> Result<Binaries, BinariesError> {
    let mut dirs: Vec<PathBuf> = layouts
        .iter()
        .flat_map(|(parent, prefix)| versions_in(parent, prefix))
        .collect();
    dirs.extend(path.iter().flat_map(env::split_paths));
    let mut first_error = None;
    let mut found = Vec::new();
    for dir in dirs.iter().filter(|dir| dir.join("postgres").exists()) {
        match examine(dir) {
            Ok(binaries) => found.push(binaries),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    let preferred = found
        .iter()
        .position(|binaries| Some(binaries.major) == preferred_major)
        .unwrap_or(0);
    if preferred < found.len() {
        return Ok(found.swap_remove(preferred));
    }
    Err(first_error.unwrap_or_else(|| BinariesError::NotFound {
        looked: "/usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, PATH".to_owned(),
    }))
}

/// `<parent>/<prefix><major>/bin`, newest first.
fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let major = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn examine(dir: &Path) -> Result<Binaries, BinariesError> {
    let unusable = |why: String| BinariesError::Unusable {
        path: dir.to_owned(),
        why,
    };
    if let Some(missing) = PROGRAMS.iter().find(|name| !dir.join(name).is_file()) {
        return Err(unusable(format!("it has no program `{missing}`")));
    }
    let output = Command::new(dir.join("postgres"))
        .arg("--version")
        .output()
        .map_err(|error| unusable(format!("`postgres --version` cannot run: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (major, version) = parse_version(&text).ok_or_else(|| {
        let line = text.lines().next().unwrap_or_default();
        unusable(format!("`postgres --version` says `{line}`"))
    })?;
    if major < MAJOR_VERSION_MIN {
        return Err(BinariesError::TooOld {
            path: dir.to_owned(),
            version,
        });
    }
    Ok(Binaries {
        dir: dir.to_owned(),
        major,
        version,
    })
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` -> 15, `15.18`.
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text
        .split_once("(PostgreSQL)")?
        .1
        .split_whitespace()
        .next()?;
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    Some((version[..digits].parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests;
