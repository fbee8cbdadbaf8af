//! Connections to one upstream server, kept between requests.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use crate::client::{ClientConn, SendTiming, exchange};
use crate::error::{SendError, SendErrorKind};
use crate::message::{Request, Response};
use crate::options::ClientOptions;
use crate::upstream_io::{Endpoint, UpstreamIo};

/// The connections of one worker to one upstream server. Cloning shares it.
#[derive(Clone)]
pub struct Pool(Rc<PoolInner>);

pub(crate) struct PoolInner {
    endpoint: Endpoint,
    pub(crate) options: ClientOptions,
    /// Used from the back, so that what is not needed grows old at the front.
    idle: RefCell<VecDeque<Box<ClientConn>>>,
    closed: Cell<bool>,
}

impl Pool {
    pub fn new(endpoint: Endpoint, options: ClientOptions) -> Self {
        Self(Rc::new(PoolInner {
            endpoint,
            options,
            idle: RefCell::default(),
            closed: Cell::new(false),
        }))
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Sends `request` and waits for the response head.
    ///
    /// A pooled connection that turns out to be closed is replaced without a word where that is
    /// safe: nothing was sent, or the request is idempotent and still has its body.
    ///
    /// # Errors
    /// [`SendError`]; `request` can be sent again elsewhere where the flags allow it.
    pub async fn send(
        &self,
        request: &mut Request,
        timing: &mut SendTiming,
    ) -> Result<Response, SendError> {
        loop {
            let (conn, reused) = match self.0.take() {
                Some(conn) => (conn, true),
                None => (self.0.connect().await?, false),
            };
            timing.reused = reused;
            timing.connected = Some(Instant::now());
            match exchange(conn, self.0.clone(), request).await {
                Ok(response) => {
                    timing.first_byte = Some(Instant::now());
                    return Ok(response);
                }
                Err(error) if reused && is_stale(&error, request) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.0.idle.borrow().len()
    }

    /// Closes the connections that have been idle for too long, or that the server has closed.
    /// Call it now and then: without requests nobody else looks.
    pub fn reap(&self) {
        let timeout = self.0.options.idle_timeout;
        self.0
            .idle
            .borrow_mut()
            .retain_mut(|conn| conn.idle_since.elapsed() < timeout && conn.is_quiet());
    }

    /// Closes the idle connections; those in use close once they are done.
    pub fn close(&self) {
        self.0.closed.set(true);
        self.0.idle.borrow_mut().clear();
    }
}

/// The upstream closed a connection that it had kept open, before it answered: it tells nothing of
/// the server's health, and the request may go over another connection.
fn is_stale(error: &SendError, request: &Request) -> bool {
    error.kind == SendErrorKind::ClosedEarly
        && error.body_intact
        && (error.nothing_sent || request.is_idempotent())
}

impl PoolInner {
    fn take(&self) -> Option<Box<ClientConn>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut conn) = idle.pop_back() {
            if conn.idle_since.elapsed() < self.options.idle_timeout && conn.is_quiet() {
                return Some(conn);
            }
        }
        None
    }

    async fn connect(&self) -> Result<Box<ClientConn>, SendError> {
        match UpstreamIo::connect(&self.endpoint, &self.options).await {
            Ok(io) => Ok(Box::new(ClientConn::new(io))),
            Err(kind) => Err(SendError {
                kind,
                nothing_sent: true,
                body_intact: true,
            }),
        }
    }

    /// Takes back a connection whose last response has been read to its end.
    pub(crate) fn put(&self, mut conn: Box<ClientConn>) {
        let mut idle = self.idle.borrow_mut();
        // Bytes nobody asked for are an answer to a question of somebody else's.
        if self.closed.get() || idle.len() >= self.options.idle_max || !conn.rest() {
            return;
        }
        idle.push_back(conn);
    }
}
