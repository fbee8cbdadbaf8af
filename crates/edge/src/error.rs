//! What can be wrong with the edge's options, or with binding its listeners.

use std::net::SocketAddr;

use trilith_route::{PathPattern, RouterError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("site `{site}`: {source}")]
    Site { site: String, source: RouterError },
    #[error(
        "site `{site}`, route `{path}`: no upstream `{upstream}`; add an [[upstream]] of that name"
    )]
    UnknownUpstream {
        site: String,
        path: PathPattern,
        upstream: String,
    },
    #[error("upstream `{upstream}` has no servers; give it at least one in `servers`")]
    EmptyUpstream { upstream: String },
    #[error(
        "site `{site}`, route `{path}`: no server has the role \"web\"; give it to a [[server]]"
    )]
    NoWebServer { site: String, path: PathPattern },
    #[error("the listener {address} is for HTTPS, but there are no certificates")]
    NoCertificates { address: SocketAddr },
    #[error("cannot listen on {address}: {source}; stop what uses the address, or change [ports]")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the edge is draining: it opens no listeners any more")]
    Drains,
    #[error("cannot start the thread that checks servers: {source}")]
    Thread { source: std::io::Error },
}
