//! Messages between servers as HTTP: `POST /v1/cluster/<kind>`, JSON both ways, over mutual TLS.

mod client;
mod event;
mod server;

pub use client::HttpTransport;
pub use server::{Answer, PeerName, decode, router, router_for};
