//! The example's code base, as somebody would have it on a disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::built;

/// Copies `examples/foobar` without its sources to `to`, with its server in `bin/`.
pub fn example_code_base(to: &Path) -> Result<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/foobar");
    copy_folder(&from, to, &["src", "tests", "bin", "target", "Cargo.toml"])?;
    fs::create_dir_all(to.join("bin"))?;
    fs::copy(built("server", "foobar")?, to.join("bin/server"))?;
    Ok(to.to_owned())
}

/// Copies a folder and all in it, except some names at its top.
pub fn copy_folder(from: &Path, to: &Path, except: &[&str]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if except.iter().any(|skipped| name == *skipped) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        if entry.file_type()?.is_dir() {
            copy_folder(&source, &target, &[])?;
        } else {
            fs::copy(&source, &target)
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
