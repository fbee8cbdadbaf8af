//! Time-outs and limits of connections.

use std::time::Duration;

use trilith_http1::HeadLimits;

/// How a server treats its clients.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// From the first byte of a request head to its last (not idle time: that is how slowloris works).
    pub header_timeout: Duration,
    /// Idle time between requests, and before the first.
    pub keep_alive_timeout: Duration,
    /// Longest wait for the next byte of a request body.
    pub body_idle_timeout: Duration,
    /// Slowest request body, bytes per second of waiting, judged after `body_rate_grace`.
    pub body_rate_min: u64,
    pub body_rate_grace: Duration,
    /// Longest time without the client taking a byte of the response.
    pub write_idle_timeout: Duration,
    /// Longest silence on an upgraded connection.
    pub tunnel_idle_timeout: Duration,
    pub limits: HeadLimits,
}

impl Default for ServerOptions {
    /// The defaults of field/edge.md section 5.
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(30),
            body_rate_min: 1_000,
            body_rate_grace: Duration::from_secs(10),
            write_idle_timeout: Duration::from_secs(30),
            tunnel_idle_timeout: Duration::from_secs(3_600),
            limits: HeadLimits::default(),
        }
    }
}

/// How a client treats one upstream server.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// TCP connect, and TLS handshake, each.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response head.
    pub response_timeout: Duration,
    /// Longest wait for the next byte of a response body. `text/event-stream` has none.
    pub body_idle_timeout: Duration,
    /// How long an idle connection is kept; shorter than the server's own, so that the server never
    /// closes one at the moment it is used again.
    pub idle_timeout: Duration,
    /// Idle connections kept at most, per worker and upstream server.
    pub idle_max: usize,
    pub limits: HeadLimits,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(4),
            response_timeout: Duration::from_secs(60),
            body_idle_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(55),
            idle_max: 256,
            limits: HeadLimits::default(),
        }
    }
}
