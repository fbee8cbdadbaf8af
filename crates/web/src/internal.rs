//! The web server as its peers see it: requests of edges on other servers.

use std::rc::Rc;
use std::sync::Arc;

use trilith_http::{Handler, Method, Outcome, Request, Response, StatusCode};

use crate::answer::plain_error;
use crate::run::{Web, WebWorker};
use crate::{HEALTH_PATH, INTERNAL_HOST};

/// Answers what comes over the internal listener (ALPN `trilith-http`). Only edges of this cluster
/// can reach it, so its `X-Forwarded-*` fields are to be trusted.
#[derive(Clone, Debug)]
pub struct InternalHandler {
    web: Arc<Web>,
    worker: Rc<WebWorker>,
}

impl InternalHandler {
    pub fn new(web: Arc<Web>, worker: Rc<WebWorker>) -> Self {
        Self { web, worker }
    }

    fn internal(&self, request: &Request) -> Response {
        if request.target.path() != HEALTH_PATH {
            return plain_error(StatusCode::NOT_FOUND);
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return plain_error(StatusCode::METHOD_NOT_ALLOWED).header("Allow", "GET, HEAD");
        }
        let query = request.target.query().unwrap_or_default();
        let app = query.split('&').find_map(|pair| pair.strip_prefix("app="));
        if self.web.is_healthy(app) {
            Response::text(StatusCode::OK, "healthy\n")
        } else {
            Response::text(StatusCode::SERVICE_UNAVAILABLE, "not healthy\n")
        }
    }
}

impl Handler for InternalHandler {
    /// The edge that asked keeps the log.
    type Record = ();

    async fn handle(&self, mut request: Request) -> (Response, ()) {
        let response = if is_internal(&request.host) {
            self.internal(&request)
        } else {
            self.web.handle(&mut request, &self.worker).await
        };
        (response, ())
    }

    fn finished(&self, (): (), _: Outcome) {}
}

fn is_internal(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case(INTERNAL_HOST)
}
