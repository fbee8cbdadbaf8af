//! Purpose: one TOML file -> typed [`Config`], or all diagnostics at once with places and hints.
//! Box in the picture: none; it describes all of them.
//! Invariants: no I/O, no clock, no randomness; whatever the text is, [`Config::parse`] returns, never
//!     panics, and says everything that is wrong; a [`Config`] exists only after all checks passed;
//!     names, types, defaults and meanings of the keys stand in one table, `keys`.
//!     [`diff`] shows no value that may be secret.
//! Start reading at: [`Config`], then `keys.rs`, then `read.rs`.
//! Tested by: `tests/broken` and `tests/good` (golden files), `tests/never_panics.rs`, `keys/tests.rs`.
#![forbid(unsafe_code)]

mod diagnostics;
mod diff;
pub mod keys;
pub mod limits;
mod model;
mod read;
mod similar;
mod values;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use diff::{Change, Changes, Effect, diff};
pub use keys::{Applies, UnknownKey, Who, commented_template, explain, reference_markdown};
pub use model::{
    App, Balance, Cluster, Code, Config, Database, DatabaseUser, Edge, FloatingAddress,
    FurtherDatabase, HealthCheck, Loaded, Mode, OnQuorumLoss, Ports, Role, Roles, Route,
    RouteAction, Server, Site, SiteTls, StoreKind, Synchronous, Upstream, UpstreamServer,
    VipConfig, VipMode, Workers,
};
pub use values::{
    AppName, CodePath, HostName, InvalidValue, PathPattern, RedirectStatus, UpstreamName, UrlPath,
};
