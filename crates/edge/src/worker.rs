//! One data-plane thread of the edge, and the way of a request through it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc::UnboundedSender;
use trilith_balance::{Ejection, Millis};
use trilith_http::{
    Body, ConnInfo, Handler, Method, Outcome, Request, Response, StatusCode, Target,
};
use trilith_route::{encode_path, forward_path, normalise_path, strip_prefix};
use trilith_telemetry::{AccessLog, WorkerMetrics};
use trilith_web::{INTERNAL_HOST, RouteId, Web, WebWorker};

use crate::body_limit;
use crate::forward::Answer;
use crate::forwarded::{Origin, request_id, settle};
use crate::options::Action;
use crate::page;
use crate::pool::PoolId;
use crate::record::{Record, Termination, Trip, access_of_rejected};
use crate::snapshot::{HostEntry, PlannedAction, RoutePlan, SitePlan, Snapshot};
use crate::view::{Connections, View};

/// What all workers and the control plane of an edge share.
pub(crate) struct Shared {
    pub snapshot: ArcSwap<Snapshot>,
    /// Grows with each snapshot. Workers compare it with their own for every request.
    pub generation: AtomicU64,
    pub web: Option<Arc<Web>>,
    /// What [`Millis`] count from.
    pub epoch: Instant,
    /// To be told by the control plane, which may take its time.
    pub ejections: UnboundedSender<Ejected>,
}

/// A server that a worker has ejected.
pub(crate) struct Ejected {
    pub pool: PoolId,
    pub server: Arc<str>,
    pub address: std::net::SocketAddr,
    pub ejection: Ejection,
    pub at: Millis,
}

impl Shared {
    pub fn millis(&self, now: Instant) -> Millis {
        let since = now.saturating_duration_since(self.epoch);
        Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

pub(crate) struct Worker {
    pub shared: Arc<Shared>,
    view: RefCell<Rc<View>>,
    pub connections: Connections,
    pub metrics: WorkerMetrics,
    /// `None`: nobody reads it, so nothing is put together for it.
    access: Option<AccessLog>,
    pub web: Option<Rc<WebWorker>>,
    random: RefCell<SmallRng>,
}

impl Worker {
    /// To be called on its thread. `seed` is random.
    pub fn new(
        shared: Arc<Shared>,
        metrics: WorkerMetrics,
        access: Option<AccessLog>,
        seed: u64,
    ) -> Rc<Self> {
        let connections = Connections::default();
        let generation = shared.generation.load(Ordering::Acquire);
        let view = View::new(
            generation,
            shared.snapshot.load_full(),
            &connections,
            &metrics,
        );
        let web = shared.web.as_ref();
        Rc::new(Self {
            web: web.map(|web| WebWorker::new(web, &metrics)),
            view: RefCell::new(view),
            connections,
            metrics,
            access,
            random: RefCell::new(SmallRng::seed_from_u64(seed)),
            shared,
        })
    }

    /// The snapshot in force, with what this worker keeps for it.
    pub fn view(&self) -> Rc<View> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if self.view.borrow().generation != generation {
            let snapshot = self.shared.snapshot.load_full();
            let view = View::new(generation, snapshot, &self.connections, &self.metrics);
            self.view.replace(view);
        }
        self.view.borrow().clone()
    }

    fn random_id(&self) -> [u64; 2] {
        self.random.borrow_mut().random()
    }

    /// Between 0 and 1, for spreading retries in time.
    pub fn jitter(&self) -> f64 {
        self.random.borrow_mut().random()
    }
}

impl Handler for Worker {
    type Record = Record;

    async fn handle(&self, mut request: Request) -> (Response, Record) {
        let now = Instant::now();
        let view = self.view();
        let trusted = &view.snapshot.options.trusted_proxies;
        let origin = settle(&mut request, trusted, || self.random_id());
        let mut journey = Journey {
            view: &view,
            origin,
            now,
            route: None,
            original_target: None,
            trip: Trip::default(),
        };
        let response = match self.answer(&mut request, &mut journey).await {
            Answer::Response(response) => response,
            Answer::Error(status) => self.error(status, &request, &journey).await,
        };
        let Journey {
            route,
            original_target,
            trip,
            ..
        } = journey;
        // Whoever still reads it has it; kept here it would hold on to the connection.
        request.body = Body::empty();
        let record = Record {
            request,
            original_target,
            client: origin.client,
            is_https: origin.is_https,
            status: response.status,
            route,
            trip,
            view,
        };
        (response, record)
    }

    fn finished(&self, record: Record, outcome: Outcome) {
        let took = outcome.finished.saturating_duration_since(outcome.started);
        let status = record.status_told(&outcome);
        let counters = &record.view.counters;
        counters.count(record.route, status.as_u16(), took);
        if let Some(access) = &self.access {
            access.write(&record.access(status, &outcome));
        }
    }

    fn rejected(&self, conn: &ConnInfo, status: StatusCode, _reason: &'static str) {
        self.view.borrow().counters.rejected.inc();
        if let Some(access) = &self.access {
            access.write(&access_of_rejected(conn, status));
        }
    }
}

/// What is known of a request on its way.
pub(crate) struct Journey<'a> {
    pub view: &'a Rc<View>,
    pub origin: Origin,
    /// When it began.
    pub now: Instant,
    pub route: Option<RouteId>,
    pub original_target: Option<Target>,
    pub trip: Trip,
}

impl Worker {
    async fn answer(&self, request: &mut Request, journey: &mut Journey<'_>) -> Answer {
        let snapshot = &*journey.view.snapshot;
        let entry = match find_site(snapshot, request) {
            Ok(entry) => entry,
            Err(status) => return Answer::Error(status),
        };
        let site = &snapshot.sites[entry.site];
        // A request that is answered below still belongs to its site's error pages.
        if let Some(location) = canonical_location(snapshot, site, entry, request, journey.origin) {
            return page::redirect(StatusCode::PERMANENT_REDIRECT, &location).into();
        }
        if request.host.is_empty() {
            // Behind us it is HTTP/1.1, which has to name a host.
            request.host.clone_from(&site.host);
            request.headers.append("Host", &site.host);
        }
        if matches!(request.method, Method::CONNECT | Method::TRACE) {
            return Answer::Error(StatusCode::METHOD_NOT_ALLOWED);
        }
        if request.target.path() == "*" && request.method == Method::OPTIONS {
            return options_of_server().into();
        }
        let Ok(path) = normalise_path(request.target.path()) else {
            return Answer::Error(StatusCode::BAD_REQUEST);
        };
        let Some((_, _, plan)) = site.routes.get(&path) else {
            return Answer::Error(StatusCode::NOT_FOUND);
        };
        journey.route = Some(plan.id);
        let target = match &plan.action {
            PlannedAction::Answer(action) => return fixed(action, plan, &path, request),
            PlannedAction::Balance(at) => upstream_target(snapshot, *at, plan, &path, request),
            PlannedAction::LocalFiles => None,
        };
        match request.body.size() {
            Some(size) if size > plan.body_max => {
                journey.trip.termination = Termination::ClientBodyTooLarge;
                return Answer::Error(StatusCode::PAYLOAD_TOO_LARGE);
            }
            Some(_) => {}
            None => {
                let body = std::mem::take(&mut request.body);
                request.body = body_limit::limit(body, plan.body_max);
            }
        }
        if let Some(target) = target {
            let original = std::mem::replace(&mut request.target, target);
            journey.original_target = Some(original);
        }
        match &plan.action {
            PlannedAction::Balance(at) => self.balance(*at, plan.id, request, journey).await,
            _ => self.local_files(plan.id, request).await,
        }
    }

    /// The site's own page if there is a web server here to ask for it.
    async fn error(
        &self,
        status: StatusCode,
        request: &Request,
        journey: &Journey<'_>,
    ) -> Response {
        let site = journey
            .view
            .snapshot
            .hosts
            .get(&request.host)
            .map(|entry| entry.site);
        let response = match (&self.shared.web, &self.web, site) {
            (Some(web), Some(worker), Some(site)) => {
                web.error_response(Some(site), status, worker).await
            }
            _ => page::error(status, request, request_id(&request.headers)),
        };
        page::finish_error(response)
    }
}

/// The site of a request, by its host and by the name its connection was made for.
fn find_site(snapshot: &Snapshot, request: &Request) -> Result<HostEntry, StatusCode> {
    let host = request.host.as_str();
    let entry = match host {
        // HTTP/1.0 without `Host`: clear only where there is one site.
        "" if snapshot.sites.len() == 1 => Some(HostEntry {
            site: 0,
            is_canonical: true,
        }),
        "" | INTERNAL_HOST => None,
        host => snapshot.hosts.get(host).copied(),
    };
    let name = request
        .conn
        .tls
        .as_ref()
        .and_then(|tls| tls.server_name.as_deref());
    if let Some(name) = name
        && !name.eq_ignore_ascii_case(host)
    {
        // RFC 9110 section 7.4. The TLS layer may have let a name pass that no site has; then it
        // says nothing.
        let of_name = snapshot.hosts.get(name).map(|entry| entry.site);
        if of_name.is_some() && of_name != entry.map(|entry| entry.site) {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        }
    }
    entry.ok_or(StatusCode::NOT_FOUND)
}

/// Where a request should have gone: to HTTPS, to the site's own name.
fn canonical_location(
    snapshot: &Snapshot,
    site: &SitePlan,
    entry: HostEntry,
    request: &Request,
    origin: Origin,
) -> Option<String> {
    let to_https = site.https_redirect && !origin.is_https;
    if entry.is_canonical && !to_https {
        return None;
    }
    let target = match request.target.as_str() {
        "*" => "/",
        target => target,
    };
    let mut location = String::with_capacity(16 + site.host.len() + target.len());
    location.push_str(if to_https || origin.is_https {
        "https://"
    } else {
        "http://"
    });
    location.push_str(&site.host);
    if to_https {
        match snapshot.options.https_port {
            443 => {}
            port => {
                location.push(':');
                location.push_str(&port.to_string());
            }
        }
    } else if let Some(port) = port_of(&request.host) {
        location.push(':');
        location.push_str(port);
    }
    location.push_str(target);
    Some(location)
}

fn port_of(host: &str) -> Option<&str> {
    let (_, port) = host.rsplit_once(':')?;
    let is_port = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    is_port.then_some(port)
}

fn options_of_server() -> Response {
    Response::new(StatusCode::NO_CONTENT)
        .header("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
}

/// What a request to an upstream asks for, where that is not what the client wrote. Web servers get
/// what the client wrote: they know the routes themselves.
fn upstream_target(
    snapshot: &Snapshot,
    balancer: usize,
    plan: &RoutePlan,
    normal: &str,
    request: &Request,
) -> Option<Target> {
    if snapshot.pools[snapshot.balancers[balancer].pool]
        .id
        .is_web()
    {
        return None;
    }
    let raw = request.target.path();
    let path = forward_path(raw, normal);
    let path = match &plan.strip_prefix {
        // Spelled in another way than the route, the prefix is found in the normal path only.
        Some(prefix) => match strip_prefix(&path, prefix) {
            Some(rest) => rest.to_owned().into(),
            None => {
                let rest = strip_prefix(normal, prefix).unwrap_or(normal);
                encode_path(rest).into_owned().into()
            }
        },
        None => path,
    };
    if path == raw {
        return None;
    }
    let mut target = path.into_owned();
    if let Some(query) = request.target.query() {
        target.push('?');
        target.push_str(query);
    }
    Some(Target::new(target))
}

/// A redirect or fixed response of the config.
fn fixed(action: &Action, plan: &RoutePlan, normal: &str, request: &Request) -> Answer {
    match action {
        Action::Redirect { to, status } => {
            let prefix = plan.strip_prefix.as_deref().unwrap_or("");
            let path = strip_prefix(normal, prefix).unwrap_or(normal);
            let location = redirect_location(to, &encode_path(path), request.target.query());
            page::redirect(*status, &location).into()
        }
        Action::Respond {
            status,
            content_type,
            body,
        } => Response::with_body(*status, content_type, body.clone()).into(),
        Action::Files { .. } | Action::App { .. } | Action::Upstream(_) => {
            Answer::Error(StatusCode::NOT_FOUND)
        }
    }
}

fn redirect_location(to: &str, path: &str, query: Option<&str>) -> String {
    if !to.contains("{path}") && !to.contains("$path") {
        return to.to_owned();
    }
    let mut location = to.replace("{path}", path).replace("$path", path);
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    location
}

#[cfg(test)]
mod tests;
