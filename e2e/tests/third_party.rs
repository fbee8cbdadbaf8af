//! An application that nobody here wrote: Kinto, from PyPI (see `third-party/README.md`).

use anyhow::{Context, Result, ensure};
use trilith_e2e::{Client, Demo, Kinto};

const USER: (&str, &str) = Kinto::USER;
const JSON: (&str, &str) = Kinto::JSON;

#[test]
fn kinto_runs_unmodified() -> Result<()> {
    let kinto = Kinto::install()?;
    let demo = Demo::start(kinto.options())?;

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
