//! The guest book of www.foobar.com: an ordinary web application that knows nothing of Trilith.
//!
//! `server` serves HTTP on `$HOST:$PORT`; `server migrate` brings the schema up to date.
#![forbid(unsafe_code)]

mod database;
mod entries;
mod migrate;
mod pages;
mod routes;
mod settings;

use std::io::Write;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;

/// One thread is enough: a server runs as many instances of this as it has work for.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::from_env()?;
    match std::env::args().nth(1).as_deref() {
        None => serve(settings).await,
        Some("migrate") => migrate::run(&settings).await,
        Some(other) => {
            bail!("unknown command `{other}`: `server` serves, `server migrate` migrates")
        }
    }
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let address = settings.listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    log(format_args!(
        "{} listens on http://{address}",
        settings.instance
    ));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    axum::serve(listener, routes::router(settings))
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            log(format_args!(
                "stopping: no new connections, requests under way are finished"
            ));
        })
        .await?;
    Ok(())
}

/// One line of log, on stdout. That nobody reads it is no reason to end, which `println!` does.
fn log(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
