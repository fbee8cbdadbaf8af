//! From the config file to each crate's options. One file per service; no file knows another
//! service.

pub(crate) mod app;
pub(crate) mod edge;
pub(crate) mod postgres;
pub(crate) mod sql;
pub(crate) mod tls;
pub(crate) mod vip;
pub(crate) mod web;

use trilith_config::PathPattern as ConfigPattern;
use trilith_route::PathPattern;

use crate::error::NodeError;

/// A pattern as routing wants it. The config crate checked it by the same rules.
fn pattern(pattern: &ConfigPattern) -> Result<PathPattern, NodeError> {
    pattern.to_string().parse().map_err(NodeError::service)
}

/// A status code that the config crate has checked.
fn status(code: u16) -> Result<trilith_http::StatusCode, NodeError> {
    trilith_http::StatusCode::from_u16(code).map_err(NodeError::service)
}

#[cfg(test)]
mod tests;
