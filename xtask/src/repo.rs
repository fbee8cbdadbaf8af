//! What the rules look at: the crates and the text files of the project.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// The project, read once.
#[derive(Debug, Default)]
pub struct Repo {
    pub crates: Vec<Crate>,
    pub files: Vec<File>,
    /// Names of all packages that a normal build takes in.
    pub built_packages: BTreeSet<String>,
    /// What `docs/reference/config.md` should hold.
    pub config_reference: String,
}

/// A member of the workspace.
#[derive(Clone, Debug)]
pub struct Crate {
    /// Folder below the root: `crates/edge`.
    pub path: String,
    /// Folders of the members it depends on, dev-dependencies left out.
    pub dependencies: Vec<String>,
    /// All packages it names in `[dependencies]` and `[build-dependencies]`.
    pub packages: Vec<String>,
}

/// A text file of the project.
#[derive(Clone, Debug)]
pub struct File {
    /// Below the root: `crates/edge/src/lib.rs`.
    pub path: String,
    pub text: String,
}

/// Folders that hold no source of ours.
const SKIPPED: &[&str] = &[
    "target",
    "corpus",
    "artifacts",
    "node_modules",
    "bin",
    "trilith-demo",
];
/// What counts as text, by the end of the name.
const TEXT: &[&str] = &[
    ".rs", ".md", ".toml", ".sh", ".html", ".css", ".js", ".sql", ".py", "Makefile", "Procfile",
    "run",
];

impl Repo {
    pub fn load() -> Result<Self> {
        let root = root();
        Ok(Self {
            crates: load_crates(&root)?,
            files: load_files(&root)?,
            built_packages: built_packages(&root)?,
            config_reference: crate::reference::text(),
        })
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The `lib.rs` or `main.rs` of a crate.
    pub fn root_file(&self, member: &Crate) -> Option<&File> {
        self.file(&format!("{}/src/lib.rs", member.path))
            .or_else(|| self.file(&format!("{}/src/main.rs", member.path)))
    }

    pub fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }
}

impl File {
    /// A file that holds tests only, by the layout of CONTRIBUTING.md.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The lines before the test module at the end, with their numbers from 1.
    pub fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = if self.is_test() {
            ""
        } else {
            self.text.as_str()
        };
        code.lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .enumerate()
            .map(|(i, line)| (i + 1, line))
    }
}

/// The root of the checkout this program was built from.
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

fn load_crates(root: &Path) -> Result<Vec<Crate>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let below_root = |path: &Path| -> Option<String> {
        Some(
            path.strip_prefix(&metadata.workspace_root)
                .ok()?
                .to_str()?
                .to_owned(),
        )
    };
    let mut crates = Vec::new();
    for package in &metadata.packages {
        let folder = package
            .manifest_path
            .parent()
            .context("a manifest without a folder")?;
        let kept = || {
            package
                .dependencies
                .iter()
                .filter(|d| d.kind != DependencyKind::Development)
        };
        crates.push(Crate {
            path: below_root(folder.as_std_path()).context("a member outside the root")?,
            dependencies: kept()
                .filter_map(|d| below_root(d.path.as_ref()?.as_std_path()))
                .collect(),
            packages: kept().map(|d| d.name.clone()).collect(),
        });
    }
    crates.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(crates)
}

/// `cargo tree`, not the lock file: that also lists what no feature of ours turns on.
fn built_packages(root: &Path) -> Result<BTreeSet<String>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["tree", "--workspace", "--locked", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}"])
        .current_dir(root)
        .output()
        .context("cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect())
}

fn load_files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in list(root)? {
        let name = name_of(&entry);
        if entry.is_file() {
            read(root, &entry, &mut files)?;
        } else if !name.starts_with('.') || matches!(name.as_str(), ".ci" | ".config" | ".cargo") {
            walk(root, &entry, &mut files)?;
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    if SKIPPED.contains(&name_of(folder).as_str()) {
        return Ok(());
    }
    for entry in list(folder)? {
        if entry.is_symlink() || name_of(&entry).starts_with('.') {
            continue;
        }
        if entry.is_dir() {
            walk(root, &entry, files)?;
        } else {
            read(root, &entry, files)?;
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path, files: &mut Vec<File>) -> Result<()> {
    let name = name_of(path);
    if !TEXT.iter().any(|end| name.ends_with(end)) {
        return Ok(());
    }
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // A test's input may be anything.
    if let Ok(text) = String::from_utf8(text) {
        let path = path
            .strip_prefix(root)?
            .to_str()
            .context("a file name that is not UTF-8")?;
        files.push(File {
            path: path.to_owned(),
            text,
        });
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
