//! What comes in must be HTTP/1.1 beyond doubt.

use std::time::Duration;

use anyhow::{Result, ensure};
use trilith_e2e::{Block, OneServer, Stub, malformed, raw};

const PATIENCE: Duration = Duration::from_secs(5);

fn site(stub: &Stub) -> String {
    format!(
        "[[upstream]]\nname = \"stub\"\nservers = [\"{}\"]\nhealth = false\n\n\
         [[site]]\nhost = \"site.test\"\ntls = \"off\"\n\n\
         [[site.route]]\npath = \"/*\"\nupstream = \"stub\"\n",
        stub.address()
    )
}

fn server() -> Result<(Stub, OneServer)> {
    let stub = Stub::start("127.0.0.1:0".parse()?, "stub")?;
    let server = OneServer::start(Block::take()?, &site(&stub), |_| Ok(()))?;
    Ok((stub, server))
}

/// 400, closed, one response; and the next connection is served.
fn refused(server: &OneServer, what: &str, bytes: &[u8]) -> Result<()> {
    let answer = raw(server.address(), bytes, PATIENCE)?;
    ensure!(
        answer.status() == Some(400) && answer.closed && answer.responses() == 1,
        "{what}: {answer:?}"
    );
    let next = server.client().get("/next")?.expect(200)?;
    ensure!(
        next.json()?["path"] == "/next",
        "{what}: the next connection got {}",
        next.text()
    );
    Ok(())
}

#[test]
fn malformed_requests_get_400_and_a_closed_connection() -> Result<()> {
    let (stub, server) = server()?;
    assert!(malformed::HEADS.len() + malformed::BODIES.len() >= 40);
    let mut broken = Vec::new();
    for (what, bytes) in malformed::HEADS {
        if let Err(e) = refused(&server, what, bytes) {
            broken.push(format!("{e:#}"));
        }
    }
    for (what, chunks) in malformed::BODIES {
        if let Err(e) = refused(&server, what, &malformed::with_body(chunks)) {
            broken.push(format!("{e:#}"));
        }
    }
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    // Nothing but the requests after them reached the backend.
    let count = malformed::HEADS.len() + malformed::BODIES.len();
    ensure!(
        stub.requests() == count,
        "{} requests came through, not {count}",
        stub.requests()
    );
    server.finish()
}

#[test]
fn a_request_hidden_behind_a_malformed_one_is_not_served() -> Result<()> {
    let (stub, server) = server()?;
    let hidden = b"GET /hidden HTTP/1.1\r\nHost: site.test\r\n\r\n";
    for (what, bytes) in malformed::HEADS {
        let mut bytes = bytes.to_vec();
        bytes.extend(hidden);
        let answer = raw(server.address(), &bytes, PATIENCE)?;
        ensure!(
            answer.responses() <= 1 && answer.closed,
            "{what}: {answer:?}"
        );
    }
    ensure!(
        stub.requests() == 0,
        "{} requests came through",
        stub.requests()
    );
    server.finish()
}

#[test]
fn what_is_too_large_is_refused_with_its_own_status() -> Result<()> {
    let (_stub, server) = server()?;
    let long_target = format!(
        "GET /{} HTTP/1.1\r\nHost: site.test\r\n\r\n",
        "a".repeat(9000)
    );
    let large_head = format!(
        "GET / HTTP/1.1\r\nHost: site.test\r\nA: {}\r\n\r\n",
        "a".repeat(40_000)
    );
    let many_fields = format!(
        "GET / HTTP/1.1\r\nHost: site.test\r\n{}\r\n",
        "A: b\r\n".repeat(150)
    );
    for (status, request) in [(414, long_target), (431, large_head), (431, many_fields)] {
        let answer = raw(server.address(), request.as_bytes(), PATIENCE)?;
        ensure!(
            answer.status() == Some(status) && answer.closed,
            "expected {status}: {answer:?}"
        );
        server.client().get("/")?.expect(200)?;
    }
    server.finish()
}

#[test]
fn pipelined_requests_are_answered_in_order() -> Result<()> {
    let (_stub, server) = server()?;
    let mut bytes = Vec::new();
    for i in 0..20 {
        bytes.extend(format!("GET /{i} HTTP/1.1\r\nHost: site.test\r\n").bytes());
        bytes.extend(if i == 19 {
            &b"Connection: close\r\n\r\n"[..]
        } else {
            b"\r\n"
        });
    }
    let answer = raw(server.address(), &bytes, PATIENCE)?;
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    ensure!(answer.closed && answer.responses() == 20, "{text}");
    let mut rest = text.as_str();
    for i in 0..20 {
        let path = format!("\"path\":\"/{i}\"");
        let at = rest.find(&path);
        rest = &rest[at.ok_or_else(|| anyhow::anyhow!("{path} is not in its place: {text}"))?..];
    }
    server.finish()
}
