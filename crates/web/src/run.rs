//! The web server: one snapshot, and the way of a request through it.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use trilith_http::{Request, Response, StatusCode};
use trilith_telemetry::{Telemetry, WorkerMetrics};

use crate::error::Error;
use crate::options::{InstanceAddr, Options};

/// A route of [`Options::sites`], by positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId {
    pub site: usize,
    pub route: usize,
}

/// What the access log wants to know of a request that went to an app.
#[derive(Clone, Debug, Default)]
pub struct AppTrace {
    /// The instance that answered (or failed) last.
    pub instance: Option<Arc<str>>,
    /// How many instances were tried.
    pub tries: u32,
    /// When the connection in use was ready.
    pub connected: Option<Instant>,
    pub first_byte: Option<Instant>,
}

/// The web server of a process; its workers share it.
#[derive(Debug)]
pub struct Web {
    #[allow(dead_code)]
    telemetry: Telemetry,
}

/// What the web server keeps for one data-plane thread: connections to app instances, counters.
#[derive(Debug)]
pub struct WebWorker {
    #[allow(dead_code)]
    metrics: WorkerMetrics,
}

impl WebWorker {
    /// To be called on the thread, once.
    pub fn new(web: &Web, metrics: &WorkerMetrics) -> Rc<Self> {
        let _ = web;
        Rc::new(Self {
            metrics: metrics.clone(),
        })
    }
}

impl Web {
    pub fn new(options: Options, telemetry: Telemetry) -> Result<Arc<Self>, Error> {
        let _ = options;
        Ok(Arc::new(Self { telemetry }))
    }

    /// Answers a request by its `Host` and path.
    pub async fn handle(&self, request: &mut Request, worker: &WebWorker) -> Response {
        let id = RouteId { site: 0, route: 0 };
        self.handle_route(id, request, worker, &mut AppTrace::default())
            .await
    }

    /// Answers a request whose site and route the caller has found already.
    ///
    /// When the response has the field [`crate::TRY_ANOTHER`], `request` is as it was, body included,
    /// and may be sent elsewhere. Otherwise its body may be gone.
    pub async fn handle_route(
        &self,
        id: RouteId,
        request: &mut Request,
        worker: &WebWorker,
        trace: &mut AppTrace,
    ) -> Response {
        let _ = (id, request, worker, trace);
        Response::new(StatusCode::NOT_FOUND)
    }

    /// An error page in the style of the site (its `error_pages`), for errors that the caller makes.
    /// Without a site: the plain page.
    pub async fn error_response(&self, site: Option<usize>, status: StatusCode) -> Response {
        let _ = site;
        Response::new(status)
    }

    /// Whether this server takes requests for an app now: not draining, and an instance is live.
    /// `None` asks for the server as such.
    pub fn is_healthy(&self, app: Option<&str>) -> bool {
        let _ = app;
        true
    }

    /// Serves from another folder (a release) from the next request on. Requests under way finish
    /// with the folder they began with.
    pub fn set_code_root(&self, root: &Path) -> Result<(), Error> {
        let _ = root;
        Ok(())
    }

    /// The live instances of an app. Those that stay keep their connections and counts.
    pub fn set_instances(&self, app: &str, instances: &[InstanceAddr]) {
        let _ = (app, instances);
    }

    /// While draining, health says 503 and requests for apps are answered with
    /// [`crate::TRY_ANOTHER`]; files are still served.
    pub fn set_draining(&self, draining: bool) {
        let _ = draining;
    }
}
