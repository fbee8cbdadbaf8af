//! Kinto, from PyPI, as the code base of a demo (see `third-party/README.md`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::code_base::copy_folder;
use crate::command::run;
use crate::demo::DemoOptions;

const SITES: &str = r#"
[[site]]
host = "www.foobar.com"
tls = "internal"
https_redirect = false

[[site.route]]
path = "/*"
app = "web"

[app.web]
health = "/v1/__lbheartbeat__"
"#;

/// An application that nobody here wrote, installed. Dropped, it is gone.
pub struct Kinto {
    folder: TempDir,
    code: PathBuf,
}

impl Kinto {
    /// What `curl -u token:secret` sends.
    pub const USER: (&str, &str) = ("Authorization", "Basic dG9rZW46c2VjcmV0");
    pub const JSON: (&str, &str) = ("Content-Type", "application/json");

    pub fn install() -> Result<Self> {
        // Started by root, Trilith runs it as a user who must be able to get in.
        let folder = tempfile::Builder::new()
            .prefix("trilith-e2e-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        fs::write(folder.path().join("sites.toml"), SITES)?;
        let code = install(folder.path())?;
        Ok(Self { folder, code })
    }

    /// Of a demo that runs it as its only site.
    pub fn options(&self) -> DemoOptions {
        DemoOptions {
            code: Some(self.code.clone()),
            sites: Some(self.folder.path().join("sites.toml")),
            ..DemoOptions::default()
        }
    }
}

/// A virtual environment with Kinto in it, and a code base that points to it.
fn install(folder: &Path) -> Result<PathBuf> {
    let third_party = Path::new(env!("CARGO_MANIFEST_DIR")).join("third-party");
    let venv = folder.join("venv");
    let minute = Duration::from_secs(60);
    // The system's Python: another one may be in somebody's home, where the app's user cannot go.
    run(
        Command::new("/usr/bin/python3")
            .args(["-m", "venv"])
            .arg(&venv),
        minute,
    )?
    .success()
    .context("python3 -m venv; on Debian it needs the package python3-venv")?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]);
    pip.args(["--only-binary", ":all:", "--requirement"])
        .arg(third_party.join("requirements.txt"));
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    run(&mut pip, 5 * minute)?
        .success()
        .context("pip install of Kinto")?;

    let code = folder.join("code");
    copy_folder(&third_party.join("code"), &code, &[])?;
    fs::write(code.join("venv"), format!("{}\n", venv.display()))?;
    Ok(code)
}
