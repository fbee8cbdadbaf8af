//! An application that nobody here wrote: Kinto, from PyPI (see `third-party/README.md`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Client, Demo, DemoOptions, copy_folder, run};

/// What `curl -u token:secret` sends.
const USER: (&str, &str) = ("Authorization", "Basic dG9rZW46c2VjcmV0");
const JSON: (&str, &str) = ("Content-Type", "application/json");

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

#[test]
fn kinto_runs_unmodified() -> Result<()> {
    // Started by root, Trilith runs it as a user who must be able to get in.
    let folder = tempfile::Builder::new()
        .prefix("trilith-e2e-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()?;
    let sites = folder.path().join("sites.toml");
    fs::write(&sites, SITES)?;
    let code = install(folder.path())?;
    let demo = Demo::start(DemoOptions {
        code: Some(code),
        sites: Some(sites),
        ..Default::default()
    })?;

    let mut client = demo.client();
    let put = |client: &mut Client, path: &str| client.send("PUT", path, &[USER, JSON], b"");
    put(&mut client, "/v1/buckets/book")?.expect(201)?;
    put(&mut client, "/v1/buckets/book/collections/entries")?.expect(201)?;
    let records = "/v1/buckets/book/collections/entries/records";
    for i in 0..20 {
        let body = format!("{{\"data\": {{\"name\": \"Ada\", \"number\": {i}}}}}");
        // Another server each time.
        let created = demo
            .client()
            .send("POST", records, &[USER, JSON], body.as_bytes())?;
        let id = created.expect(201)?.json()?["data"]["id"]
            .as_str()
            .context("no id")?
            .to_owned();
        for _ in 0..3 {
            let path = format!("{records}/{id}");
            let record = demo
                .client()
                .send("GET", &path, &[USER], b"")?
                .expect(200)?
                .json()?;
            ensure!(record["data"]["number"] == i, "{record}");
        }
    }
    let all = client
        .send("GET", records, &[USER], b"")?
        .expect(200)?
        .json()?;
    ensure!(
        all["data"].as_array().is_some_and(|data| data.len() == 20),
        "{all}"
    );

    // It is its own judge of who may see what, and of what it was sent.
    client.send("GET", records, &[], b"")?.expect(401)?;
    client
        .send("POST", records, &[USER, JSON], b"{")?
        .expect(400)?;
    let tag = client
        .send("GET", records, &[USER], b"")?
        .header("etag")
        .context("no ETag")?
        .to_owned();
    client
        .send("GET", records, &[USER, ("If-None-Match", &tag)], b"")?
        .expect(304)?;
    client
        .send("DELETE", "/v1/buckets/book", &[USER], b"")?
        .expect(200)?;
    client.send("GET", records, &[USER], b"")?.expect(403)?;
    demo.finish()
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
