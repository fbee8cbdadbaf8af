//! Purpose: what a server tells about itself: log lines, metrics, the access log.
//! Box in the picture: none; every box holds a [`Telemetry`].
//! Invariants: one event type is one log line and one metric; the data plane counts into cells that
//!   only its own thread writes, and hands access-log lines over in large pieces without ever
//!   waiting.
//! Start reading at: [`Telemetry`], [`Event`], [`WorkerMetrics`], [`AccessLog`].
//! Tested by: `access/tests.rs`, `hot/tests.rs`, `registry/tests.rs`.
#![forbid(unsafe_code)]

mod access;
mod event;
mod hot;
mod json;
mod limits;
mod logging;
mod registry;

pub use access::{AccessLog, AccessLogFile, AccessLogOptions, AccessRecord};
pub use event::Event;
pub use hot::{HotCounter, HotGauge, HotHistogram, WorkerMetrics};
pub use json::{write_json_bytes, write_json_str};
pub use logging::{LogError, LogFormat, LogOptions, init_logging};
pub use registry::{Labels, MetricsText, Telemetry};

/// Metric types that control-plane code holds on to.
pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
