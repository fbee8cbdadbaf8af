//! `docs/reference/config.md`, made from the table of keys in `crates/config`.

use std::fs;

use anyhow::{Context, Result};

use crate::repo;

/// Below the root of the project.
pub const PATH: &str = "docs/reference/config.md";

/// What the page should hold.
pub fn text() -> String {
    trilith_config::reference_markdown()
}

/// Writes the page.
pub fn write() -> Result<()> {
    let path = repo::root().join(PATH);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&path, text()).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("written: {PATH}");
    Ok(())
}
