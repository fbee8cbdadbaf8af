//! The guest book of www.foobar.com: an ordinary web application that knows nothing of Trilith.
//!
//! `server` serves HTTP on `$HOST:$PORT`; `server migrate` brings the schema up to date.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // its log is its output

mod database;
mod entries;
mod migrate;
mod pages;
mod routes;
mod settings;

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
    println!("{} listens on http://{address}", settings.instance);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    axum::serve(listener, routes::router(settings))
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            println!("stopping: no new connections, requests under way are finished");
        })
        .await?;
    Ok(())
}
