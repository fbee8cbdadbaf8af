//! www.foobar.com on three servers, healthy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use trilith_e2e::{
    Client, Demo, DemoOptions, Process, Response, eventually, malformed, raw, run, trilith,
};

const SOON: Duration = Duration::from_secs(1);

#[test]
fn the_site_works_from_end_to_end() -> Result<()> {
    let demo = Demo::start(DemoOptions::default())?;
    ensure!(demo.servers()?.len() == 3);

    // All of them, so that one fault does not hide the others.
    let mut broken = Vec::new();
    for (what, check) in CHECKS {
        if let Err(e) = check(&demo) {
            broken.push(format!("{what}: {e:#}"));
        }
    }
    ensure!(broken.is_empty(), "{}", broken.join("\n"));

    let pids: Vec<u32> = demo
        .servers()?
        .iter()
        .map(|s| demo.pid(s))
        .collect::<Result<_>>()?;
    demo.finish()?;
    ensure!(
        pids.iter().all(|&pid| Process::find(pid).is_none()),
        "a server still runs"
    );
    Ok(())
}

type Check = fn(&Demo) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("round robin", requests_are_spread_evenly),
    ("entries", entries_appear),
    ("/whoami", reads_and_writes_are_separate),
    ("https", https_is_served),
    ("files", files_are_served),
    ("malformed requests", malformed_requests_are_refused),
    ("trilith status", status_tells_all),
    ("metrics", metrics_are_served),
    ("internal fields", nothing_internal_leaks),
];

fn whoami(demo: &Demo) -> Result<Value> {
    demo.client().get("/whoami")?.expect(200)?.json()
}

fn entries_appear(demo: &Demo) -> Result<()> {
    for i in 0..10 {
        let text = format!("entry number {i} of an end-to-end test");
        let answer = demo
            .client()
            .post_form("/entries", &[("name", "Ada"), ("message", &text)])?;
        ensure!(
            matches!(answer.status, 200..=303),
            "status {}: {}",
            answer.status,
            answer.text()
        );
        eventually("the entry is shown", SOON, || {
            let page = demo.client().get("/")?.expect(200)?.text();
            ensure!(page.contains(&text), "the page is {page}");
            Ok(())
        })?;
    }
    Ok(())
}

fn reads_and_writes_are_separate(demo: &Demo) -> Result<()> {
    for _ in 0..12 {
        let answer = whoami(demo)?;
        ensure!(
            answer["read"]["in_recovery"] == true,
            "reads are not on a replica: {answer}"
        );
        ensure!(
            answer["write"]["in_recovery"] == false,
            "writes are not on the primary: {answer}"
        );
        for key in ["server", "instance", "release"] {
            ensure!(
                answer[key].is_string() || answer[key].is_number(),
                "no {key}: {answer}"
            );
        }
    }
    Ok(())
}

fn requests_are_spread_evenly(demo: &Demo) -> Result<()> {
    let servers = demo.servers()?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..60 {
        let answer = whoami(demo)?;
        *counts
            .entry(answer["server"].as_str().context("no server")?.to_owned())
            .or_default() += 1;
    }
    // Every worker goes round by itself: each may be one request ahead.
    let even = servers
        .iter()
        .all(|name| (16..=24).contains(counts.get(name).unwrap_or(&0)));
    ensure!(even, "60 requests were spread like this: {counts:?}");

    // Over one connection, which stays with one worker, it is exact.
    let mut client = demo.client();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..60 {
        let answer = client.get("/whoami")?.expect(200)?.json()?;
        *counts
            .entry(answer["server"].as_str().context("no server")?.to_owned())
            .or_default() += 1;
    }
    let even = servers.iter().all(|name| counts.get(name) == Some(&20));
    ensure!(
        even,
        "60 requests of one connection were spread like this: {counts:?}"
    );
    Ok(())
}

fn https_is_served(demo: &Demo) -> Result<()> {
    let mut client = demo.tls_client()?;
    let page = client.get("/")?.expect(200)?;
    ensure!(page.text().contains("entry number"), "{}", page.text());
    // The same connection again.
    client.get("/whoami")?.expect(200)?;
    Ok(())
}

fn files_are_served(demo: &Demo) -> Result<()> {
    let page = demo.client().get("/")?.expect(200)?.text();
    let asset = page
        .split(['"', '\''])
        .find(|part| part.starts_with("/assets/"))
        .context("the page names no asset")?
        .to_owned();
    let file = demo.client().get(&asset)?.expect(200)?;
    ensure!(
        !file.body.is_empty() && file.header("content-type").is_some(),
        "{file:?}"
    );
    let etag = file.header("etag").context("no ETag")?.to_owned();
    let again = demo
        .client()
        .send("GET", &asset, &[("If-None-Match", &etag)], b"")?
        .expect(304)?;
    ensure!(again.body.is_empty());
    let part = demo
        .client()
        .send("GET", &asset, &[("Range", "bytes=1-3")], b"")?
        .expect(206)?;
    ensure!(part.body == file.body[1..4], "{part:?}");
    demo.client().get("/assets/%2e%2e/%2e%2e/Procfile")?;
    for path in [
        "/assets/../../Procfile",
        "/assets/..%2f..%2fProcfile",
        "/assets/nothing",
    ] {
        let answer = demo.client().get(path)?;
        ensure!(
            matches!(answer.status, 400 | 404),
            "{path}: status {}",
            answer.status
        );
    }
    Ok(())
}

fn malformed_requests_are_refused(demo: &Demo) -> Result<()> {
    let address = demo.block().floating_http();
    for (what, bytes) in malformed::HEADS {
        let answer = raw(address, bytes, Duration::from_secs(5))?;
        ensure!(
            answer.status() == Some(400) && answer.closed,
            "{what}: {answer:?}"
        );
        demo.client()
            .get("/healthz")?
            .expect(200)
            .with_context(|| format!("after {what}"))?;
    }
    Ok(())
}

fn status_tells_all(demo: &Demo) -> Result<()> {
    let status = demo.status()?;
    ensure!(status["schema"].is_number(), "{status}");
    let servers = status["servers"].as_array().context("no servers")?;
    ensure!(
        servers.len() == 3 && servers.iter().all(|s| s["state"] == "ready"),
        "{status}"
    );
    for server in servers {
        let instances = server["instances"].as_array().context("no instances")?;
        ensure!(!instances.is_empty(), "no instance on {server}");
        ensure!(
            instances.iter().all(|i| i["state"] == "live"),
            "an instance is not live: {server}"
        );
    }
    let database = status["database"]["servers"]
        .as_array()
        .context("no database")?;
    let roles: Vec<&str> = database
        .iter()
        .filter_map(|server| server["role"].as_str())
        .collect();
    ensure!(
        roles.iter().filter(|role| **role == "primary").count() == 1,
        "{status}"
    );
    ensure!(
        roles.iter().filter(|role| **role == "replica").count() == 2,
        "{status}"
    );

    // For people, the same.
    let mut command = trilith()?;
    command.args(["status", "--dir"]).arg(demo.dir());
    let text = run(&mut command, Duration::from_secs(20))?
        .success()?
        .stdout;
    for name in demo.servers()? {
        ensure!(text.contains(&name), "{name} is not in:\n{text}");
    }
    Ok(())
}

fn metrics_are_served(demo: &Demo) -> Result<()> {
    // The demo takes other ports when something has these.
    let port = demo
        .config()?
        .get("ports")
        .and_then(|ports| ports.get("admin")?.as_integer());
    let port = u16::try_from(port.unwrap_or(7480))?;
    for (i, name) in demo.servers()?.iter().enumerate() {
        let address = demo.block().address(1 + u8::try_from(i)?);
        let mut admin = Client::new((address, port).into()).host("localhost");
        let text = admin.get("/metrics")?.expect(200)?.text();
        ensure!(
            text.contains("# TYPE ") && text.contains("trilith"),
            "{name}: {text}"
        );
        admin.get("/healthz")?.expect(200)?;
    }
    Ok(())
}

fn nothing_internal_leaks(demo: &Demo) -> Result<()> {
    let mut servers = BTreeSet::new();
    for path in [
        "/",
        "/whoami",
        "/healthz",
        "/nothing-here",
        "/.trilith/health?app=web",
    ] {
        let answer: Response = demo.client().get(path)?;
        ensure!(
            answer.header("trilith-try-another").is_none(),
            "{path}: {answer:?}"
        );
        servers.extend(answer.header("server").map(str::to_owned));
    }
    let health = demo
        .client()
        .host("trilith.internal")
        .get("/.trilith/health?app=web")?;
    ensure!(
        health.status >= 400,
        "the internal health answer is public: {health:?}"
    );
    Ok(())
}
