//! Asks a server on this machine to do something: JSON over HTTP, through the admin socket in its state
//! folder (`<state>/run/admin.sock`), which only its own user and root can open.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use trilith_config::{Config, Server};

use crate::args::{DEFAULT_CONFIG, DEFAULT_DEMO_DIR, Where};
use crate::config_file::{self, Warnings};
use crate::demo::CONFIG_FILE;
use crate::failure::{Failure, Outcome};
use crate::http;

/// What changes something waits for a majority of the servers, and some of it for each of them.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// In a server's state folder.
const SOCKET: &str = "run/admin.sock";

/// A server of the cluster that runs on this machine.
#[derive(Clone, Debug)]
pub struct Local {
    pub socket: PathBuf,
    pub server: Server,
    pub config: Config,
}

impl Local {
    /// See [`call`].
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        call(&self.socket, method, path, body)
    }
}

/// The file that `--config` or `--dir` names, else the default one, else the demo of this folder.
pub fn config_path(place: &Where) -> Outcome<PathBuf> {
    if let Some(dir) = &place.dir {
        let path = dir.join(CONFIG_FILE);
        return if path.exists() {
            Ok(path)
        } else {
            let what = format!("{} is not the folder of a demo", dir.display());
            Err(Failure::usage(what).next(format!("trilith demo --dir {}", dir.display())))
        };
    }
    if let Some(path) = &place.config {
        return Ok(path.clone());
    }
    let demo = Path::new(DEFAULT_DEMO_DIR).join(CONFIG_FILE);
    let default = PathBuf::from(DEFAULT_CONFIG);
    Ok(if !default.exists() && demo.exists() {
        demo
    } else {
        default
    })
}

/// The first server of the file that runs on this machine and answers.
///
/// # Errors
/// A file that cannot be used, or no server of it that runs here.
pub fn local(place: &Where) -> Outcome<Local> {
    let path = config_path(place)?;
    let config = config_file::load(&path, Warnings::Hide)?;
    local_of(path, config)
}

/// The same for a config that was read already.
pub fn local_of(path: PathBuf, config: Config) -> Outcome<Local> {
    let mut refused = None;
    for server in &config.servers {
        let socket = config.state_dir(&server.name).join(SOCKET);
        match UnixStream::connect(&socket) {
            Ok(_) => {
                let server = server.clone();
                return Ok(Local {
                    socket,
                    server,
                    config,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refused = Some(socket);
            }
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(socket) => Failure::failed(format!(
            "{} can be opened by the user of the server and by root only",
            socket.display()
        ))
        .next("sudo trilith ..."),
        None => Failure::failed("no server of this cluster runs on this machine").next(format!(
            "trilith run --config {} --server NAME",
            path.display()
        )),
    })
}

/// One request, one answer. `body` goes as JSON; an answer without a body is `Value::Null`.
///
/// # Errors
/// No server, no answer within a minute, or the server's refusal in its own words: HTTP 400 and 422 are
/// exit code 2 (the input is wrong), all else is 1.
pub fn call(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
    let answer = exchange(socket, method, path, body).map_err(|error| {
        let failure = Failure::failed(format!("{}: {error}", socket.display()));
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                failure.next("trilith status   (is this server running?)")
            }
            _ => failure.next("trilith status"),
        }
    })?;
    let value = match answer.body.is_empty() {
        true => Value::Null,
        false => match serde_json::from_slice(&answer.body) {
            Ok(value) => value,
            // Routers answer in plain text when they do not know a path or cannot read a body.
            Err(_) => Value::String(String::from_utf8_lossy(&answer.body).into_owned()),
        },
    };
    if (200..300).contains(&answer.status) {
        return Ok(value);
    }
    Err(refusal(answer.status, path, &value))
}

/// What a server says when it does not do something: `{"error": "...", "next": ["..."]}`.
fn refusal(status: u16, path: &str, answer: &Value) -> Failure {
    let said = answer
        .get("error")
        .and_then(Value::as_str)
        .or(answer.as_str());
    let message = match (status, said) {
        (404, None | Some("")) => {
            format!("the server does not know {path}: it may be of an older version")
        }
        (_, Some(said)) if !said.is_empty() => said.trim_end().to_owned(),
        _ => format!("the server answered HTTP {status}"),
    };
    let failure = match status {
        400 | 422 => Failure::usage(message),
        _ => Failure::failed(message),
    };
    let next = answer.get("next").and_then(Value::as_array);
    next.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .fold(failure, |failure, next| failure.next(next))
}

/// HTTP/1.0, so that the answer has no chunks and ends with the connection.
fn exchange(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<http::Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let body = body.map_or_else(String::new, Value::to_string);
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: trilith\r\nConnection: close\r\nUser-Agent: trilith\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    http::parse(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer"))
}

#[cfg(test)]
mod tests;
