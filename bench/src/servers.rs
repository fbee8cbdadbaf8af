//! The servers under test: how each is found, configured and started.
//!
//! Each configuration is meant to be what someone who knows the server would write for this work:
//! one worker, no access log, keep-alive on both sides. All three tell the backend who the client
//! is (`X-Forwarded-For`), because Trilith always does.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;

/// The `Host` of every request.
pub const HOST: &str = "bench.test";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Trilith,
    Haproxy,
    Nginx,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Trilith, Kind::Haproxy, Kind::Nginx];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Trilith => "Trilith",
            Kind::Haproxy => "HAProxy",
            Kind::Nginx => "nginx",
        }
    }
}

/// What a server may listen on, on 127.0.0.1. Only the first is used by all.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub http: u16,
    pub https: u16,
    pub cluster: u16,
    pub admin: u16,
}

/// A server program found on this machine.
pub struct Program {
    pub kind: Kind,
    path: PathBuf,
    pub version: String,
}

impl Program {
    pub fn find(kind: Kind, trilith: &Path) -> Result<Self> {
        let (path, version_flag) = match kind {
            Kind::Trilith => (trilith.to_owned(), "--version"),
            Kind::Haproxy => (find_program("haproxy")?, "-v"),
            Kind::Nginx => (find_program("nginx")?, "-v"),
        };
        let path = path.canonicalize().with_context(|| {
            format!(
                "{} is not there; build it with: cargo build --release",
                path.display()
            )
        })?;
        let output = Command::new(&path)
            .arg(version_flag)
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        // nginx prints its version on stderr.
        let text = if output.stdout.is_empty() {
            output.stderr
        } else {
            output.stdout
        };
        let text = String::from_utf8_lossy(&text);
        let version = text
            .lines()
            .next()
            .unwrap_or("unknown version")
            .trim()
            .to_owned();
        Ok(Self {
            kind,
            path,
            version,
        })
    }

    /// Writes the configuration into `dir` and gives the command that serves it in the foreground.
    /// `dir` is this server's own; `www` holds the files to serve under `/static/`.
    pub fn command(
        &self,
        dir: &Path,
        www: &Path,
        ports: Ports,
        stub: SocketAddr,
    ) -> Result<Command> {
        let file = dir.join("config");
        fs::write(&file, config(self.kind, dir, www, ports, stub)?)?;
        if self.kind == Kind::Trilith {
            // Once per cluster: what its servers share.
            let made = Command::new(&self.path)
                .args(["init", "--secrets", "--config"])
                .arg(&file)
                .output()?;
            ensure!(
                made.status.success(),
                "{}",
                String::from_utf8_lossy(&made.stderr)
            );
        }
        let mut command = Command::new(&self.path);
        match self.kind {
            Kind::Trilith => command
                .args(["run", "--config"])
                .arg(&file)
                .args(["--server", "one"]),
            Kind::Haproxy => command.arg("-db").arg("-f").arg(&file),
            Kind::Nginx => command.arg("-p").arg(dir).arg("-c").arg(&file),
        };
        Ok(command)
    }
}

/// The configuration of one server, as text.
pub fn config(
    kind: Kind,
    dir: &Path,
    www: &Path,
    ports: Ports,
    stub: SocketAddr,
) -> Result<String> {
    let dir = dir
        .to_str()
        .context("the temporary folder's name is not UTF-8")?;
    let www = www
        .to_str()
        .context("the temporary folder's name is not UTF-8")?;
    Ok(match kind {
        Kind::Trilith => trilith_config(dir, www, ports, stub),
        Kind::Haproxy => haproxy_config(ports.listen(), stub),
        Kind::Nginx => nginx_config(dir, www, ports.listen(), stub),
    })
}

fn trilith_config(dir: &str, www: &str, ports: Ports, stub: SocketAddr) -> String {
    let Ports {
        http,
        https,
        cluster,
        admin,
    } = ports;
    format!(
        r#"[cluster]
name = "bench"
data = "{dir}/data"
secrets = "{dir}/secrets"
workers = 1

[ports]
http = {http}
https = {https}
cluster = {cluster}
admin = {admin}

[code]
path = "{www}"

[edge]
access_log = false

[[server]]
name = "one"
address = "127.0.0.1"
roles = ["edge", "web"]

[[upstream]]
name = "stub"
servers = ["{stub}"]
health = false

[[site]]
host = "{HOST}"
tls = "off"

[[site.route]]
path = "/static/*"
files = "."

[[site.route]]
path = "/*"
upstream = "stub"
"#
    )
}

fn haproxy_config(listen: SocketAddr, stub: SocketAddr) -> String {
    format!(
        "global
    nbthread 1
    maxconn 4096

defaults
    mode http
    no log
    option http-keep-alive
    option forwardfor
    timeout connect 4s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s

frontend bench
    bind {listen}
    default_backend stub

backend stub
    http-reuse always
    server stub {stub} pool-max-conn 512
"
    )
}

fn nginx_config(dir: &str, www: &str, listen: SocketAddr, stub: SocketAddr) -> String {
    // Workers of a master that runs as root change to an ordinary user, who cannot enter `dir`.
    let user = if rustix::process::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    format!(
        "{user}worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 4096;

events {{
    worker_connections 2048;
}}

http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 65s;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;

    upstream stub {{
        server {stub};
        keepalive 128;
        keepalive_requests 1000000000;
        keepalive_timeout 60s;
    }}

    server {{
        listen {listen};
        server_name {HOST};

        location /static/ {{
            alias {www}/;
        }}

        location / {{
            proxy_pass http://stub;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
}}
"
    )
}

impl Ports {
    /// Ports that were free a moment ago, no two the same.
    pub fn free() -> Result<Self> {
        // All of them held until the last is found.
        let held = (0..4)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<Vec<_>, _>>()?;
        let port = |i: usize| -> Result<u16> { Ok(held[i].local_addr()?.port()) };
        Ok(Self {
            http: port(0)?,
            https: port(1)?,
            cluster: port(2)?,
            admin: port(3)?,
        })
    }

    /// Where the generator connects to.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http))
    }
}

/// Looks in `PATH`, then where Debian puts servers (not in an ordinary user's `PATH`).
fn find_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| anyhow!("{name} is not installed; on Debian: apt-get install {name}"))
}
