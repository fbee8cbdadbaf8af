//! Purpose: certificates: the cluster's own CA, the certificates of sites by SNI, mTLS between
//!   servers.
//! Box in the picture: the edge's HTTPS, and every arrow between servers.
//! Invariants: rustls with aws-lc-rs only; private keys are written for their owner alone (0600) or
//!   never written at all; a certificate for a site cannot be used as a peer's, nor the other way
//!   round; running connections never notice that a certificate was replaced.
//! Start reading at: [`Ca`], [`SiteCertificates`], [`PeerIdentity`].
//! Tested by: `ca/tests.rs`, `certs/tests.rs`, `join/tests.rs`, `peer/tests.rs`.
#![forbid(unsafe_code)]

mod ca;
mod certs;
mod error;
mod join;
mod limits;
mod peer;
mod provider;
mod sessions;

pub use ca::{CA_CERTIFICATE_FILE, CA_KEY_FILE, Ca, PemIdentity};
pub use certs::{SiteCertificate, SiteCertificates, load_certificate};
pub use error::TlsError;
pub use join::{Fingerprint, join_client_config};
pub use limits::{CA_VALIDITY, LEAF_REISSUE_INTERVAL, LEAF_VALIDITY};
pub use peer::{
    ALPN_HTTP, ALPN_JOIN, ALPN_PEER, ALPN_POSTGRES, ALPN_SQL, PeerIdentity, peer_name, peer_of,
};
pub use rustls::sign::CertifiedKey;
