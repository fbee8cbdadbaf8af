//! The web server: one snapshot, and the way of a request through it.

use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use trilith_http::{ClientOptions, Request, Response, StatusCode, Target};
use trilith_route::{encode_path, forward_path, normalise_path, strip_prefix};
use trilith_telemetry::{Telemetry, WorkerMetrics};

use crate::TRY_ANOTHER;
use crate::answer::{error_with, plain_error, redirect};
use crate::dispatch::{self, Apps, WorkerPools, dispatch};
use crate::error::Error;
use crate::event::{CodeBaseSwitched, DrainChanged, InstancesChanged};
use crate::files::{self, FileCounters, FileRequest, Files};
use crate::limits::APP_IDLE_CONNECTIONS_MAX;
use crate::options::{InstanceAddr, Options};
use crate::snapshot::{Route, Snapshot};

/// A route of [`Options::sites`], by positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId {
    /// [`Options::sites_id`].
    pub sites: u64,
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
    options: Options,
    telemetry: Telemetry,
    snapshot: ArcSwap<Snapshot>,
    files: Files,
    apps: Apps,
    draining: AtomicBool,
    /// Held while the next snapshot is made, so that none is lost.
    replacing: Mutex<()>,
    /// Where milliseconds are counted from.
    epoch: Instant,
}

/// What the web server keeps for one data-plane thread: connections to app instances, counters.
#[derive(Debug)]
pub struct WebWorker {
    pools: WorkerPools,
    files: FileCounters,
}

impl WebWorker {
    /// To be called on the thread, once.
    pub fn new(web: &Web, metrics: &WorkerMetrics) -> Rc<Self> {
        let options = ClientOptions {
            connect_timeout: web.options.app_connect_timeout,
            response_timeout: web.options.app_response_timeout,
            idle_timeout: web.options.app_idle_timeout,
            idle_max: APP_IDLE_CONNECTIONS_MAX,
            ..ClientOptions::default()
        };
        Rc::new(Self {
            pools: WorkerPools::new(options, metrics.clone()),
            files: FileCounters::new(metrics),
        })
    }

    /// Closes idle connections to app instances that have grown old or were closed by the instance.
    /// To be called every few seconds: without requests nobody else looks.
    pub fn reap(&self) {
        self.pools.reap();
    }
}

impl Web {
    /// # Errors
    /// When the code base cannot be opened, or the options contradict themselves.
    pub fn new(options: Options, telemetry: Telemetry) -> Result<Arc<Self>, Error> {
        let files = Files::new(options.file_revalidate_after);
        let apps = Apps::default();
        let sites = options.sites.as_slice().into();
        let snapshot = Snapshot::new(options.sites_id, sites, &options.code_root, &files, &apps)?;
        Ok(Arc::new(Self {
            options,
            telemetry,
            snapshot: ArcSwap::from_pointee(snapshot),
            files,
            apps,
            draining: AtomicBool::new(false),
            replacing: Mutex::new(()),
            epoch: Instant::now(),
        }))
    }

    /// Answers a request by its `Host` and path.
    pub async fn handle(&self, request: &mut Request, worker: &WebWorker) -> Response {
        self.route_and_answer(request, worker, &mut AppTrace::default())
            .await
    }

    async fn route_and_answer(
        &self,
        request: &mut Request,
        worker: &WebWorker,
        trace: &mut AppTrace,
    ) -> Response {
        let snapshot = self.snapshot.load();
        let Some(site) = snapshot.site(&request.host) else {
            return plain_error(StatusCode::MISDIRECTED_REQUEST);
        };
        let found = match normalise_path(request.target.path()) {
            Ok(path) => snapshot.find(site, &path).ok_or(StatusCode::NOT_FOUND),
            Err(_) => Err(StatusCode::BAD_REQUEST),
        };
        match found {
            Ok(id) => self.answer(&snapshot, id, request, worker, trace).await,
            Err(status) => self.error(&snapshot, Some(site), status, worker).await,
        }
    }

    /// Answers a request whose site and route the caller has found already.
    ///
    /// When the response has the field [`crate::TRY_ANOTHER`], `request` is as it was, body included,
    /// and may be sent elsewhere. Otherwise its body may be gone.
    ///
    /// A route of other sites than the present ones (they were replaced since) is found anew.
    pub async fn handle_route(
        &self,
        id: RouteId,
        request: &mut Request,
        worker: &WebWorker,
        trace: &mut AppTrace,
    ) -> Response {
        let snapshot = self.snapshot.load();
        if id.sites == snapshot.sites_id {
            return self.answer(&snapshot, id, request, worker, trace).await;
        }
        drop(snapshot);
        self.route_and_answer(request, worker, trace).await
    }

    /// An error page in the style of the site (its `error_pages`), for errors that the caller makes.
    /// Without a site: the plain page.
    pub async fn error_response(
        &self,
        site: Option<usize>,
        status: StatusCode,
        worker: &WebWorker,
    ) -> Response {
        self.error(&self.snapshot.load(), site, status, worker)
            .await
    }

    /// Whether this server takes requests for an app now: not draining, and an instance is live.
    /// `None` asks for the server as such.
    pub fn is_healthy(&self, app: Option<&str>) -> bool {
        if self.is_draining() {
            return false;
        }
        let Some(name) = app else { return true };
        let snapshot = self.snapshot.load();
        snapshot
            .apps()
            .any(|app| *app.name == *name && !app.instances().is_empty())
    }

    /// Serves from another folder (a release) from the next request on. Requests under way finish
    /// with the folder they began with.
    ///
    /// # Errors
    /// When the folder cannot be opened; nothing changes then.
    pub fn set_code_root(&self, root: &Path) -> Result<(), Error> {
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.snapshot.load();
        let sites = now.options.clone();
        let snapshot = Snapshot::new(now.sites_id, sites, root, &self.files, &self.apps)?;
        self.snapshot.store(Arc::new(snapshot));
        self.telemetry.emit(&CodeBaseSwitched { path: root });
        Ok(())
    }

    /// Serves the sites of `options` from the next request on; `sites_id` has to be a new one. Requests
    /// under way finish with the route they began with. The folder, the timeouts, the instances and
    /// whether it drains stay as they are.
    ///
    /// # Errors
    /// When the sites contradict themselves; nothing changes then.
    pub fn replace(&self, options: &Options) -> Result<(), Error> {
        let _replacing = self
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let code_root = self.snapshot.load().code_root.clone();
        let sites = options.sites.as_slice().into();
        let files = &self.files;
        let snapshot = Snapshot::new(options.sites_id, sites, &code_root, files, &self.apps)?;
        self.snapshot.store(Arc::new(snapshot));
        Ok(())
    }

    /// Whether [`Web::replace`] would do it.
    ///
    /// # Errors
    /// The same.
    pub fn check(&self, options: &Options) -> Result<(), Error> {
        let code_root = self.snapshot.load().code_root.clone();
        let sites = options.sites.as_slice().into();
        let apps = Apps::default();
        Snapshot::new(options.sites_id, sites, &code_root, &self.files, &apps)?;
        Ok(())
    }

    /// The live instances of an app. Those that stay keep their connections and counts.
    pub fn set_instances(&self, app: &str, instances: &[InstanceAddr]) {
        if self.apps.get(app).set_instances(instances) {
            self.telemetry.emit(&InstancesChanged {
                app,
                live: instances.len(),
            });
        }
    }

    /// While draining, health says 503 and requests for apps are answered with
    /// [`crate::TRY_ANOTHER`]; files are still served.
    pub fn set_draining(&self, draining: bool) {
        if self.draining.swap(draining, Relaxed) != draining {
            self.telemetry.emit(&DrainChanged { draining });
        }
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    async fn answer(
        &self,
        snapshot: &Snapshot,
        id: RouteId,
        request: &mut Request,
        worker: &WebWorker,
        trace: &mut AppTrace,
    ) -> Response {
        let refusal = match self.try_answer(snapshot, id, request, worker, trace).await {
            Ok(response) => return response,
            Err(refusal) => refusal,
        };
        let mut response = self
            .error(snapshot, Some(id.site), refusal.status, worker)
            .await;
        if let Some((name, value)) = refusal.field {
            response.headers.append(name, value);
        }
        response.close = refusal.close;
        response
    }

    async fn try_answer(
        &self,
        snapshot: &Snapshot,
        id: RouteId,
        request: &mut Request,
        worker: &WebWorker,
        trace: &mut AppTrace,
    ) -> Result<Response, Refusal> {
        let route = snapshot.route(id).ok_or(StatusCode::NOT_FOUND)?;
        let path = normalise_path(request.target.path()).map_err(|_| StatusCode::BAD_REQUEST)?;
        match route {
            Route::Files {
                folder,
                strip_prefix: prefix,
            } => {
                let below = strip_prefix(&path, prefix).unwrap_or(&path);
                let file = FileRequest {
                    folder,
                    path: below,
                    public_path: &path,
                    request,
                    now_ms: self.now_ms(),
                };
                Ok(self.files.serve(file, &worker.files).await?)
            }
            Route::App {
                app,
                strip_prefix: prefix,
                body_max,
            } => {
                if self.is_draining() {
                    return Err(dispatch::Refusal::TryAnother.into());
                }
                let target = target_for_app(&request.target, &path, prefix);
                drop(path);
                let pools = worker.pools.of(app);
                Ok(dispatch(request, target, *body_max, &pools, trace).await?)
            }
            Route::Upstream => Err(StatusCode::MISDIRECTED_REQUEST.into()),
            Route::Redirect {
                redirect: to,
                strip_prefix: prefix,
            } => {
                let rest = strip_prefix(&path, prefix).unwrap_or(&path);
                Ok(redirect(to, &encode_path(rest), request.target.query()))
            }
            Route::Respond {
                status,
                content_type,
                cache_control,
                body,
            } => {
                let mut response = Response::with_body(*status, content_type, body.clone());
                if let Some(value) = cache_control {
                    response.headers.append("Cache-Control", value);
                }
                Ok(response)
            }
        }
    }

    async fn error(
        &self,
        snapshot: &Snapshot,
        site: Option<usize>,
        status: StatusCode,
        worker: &WebWorker,
    ) -> Response {
        let Some(path) = site.and_then(|site| snapshot.error_page(site, status)) else {
            return plain_error(status);
        };
        match self
            .files
            .load(&snapshot.code, path, self.now_ms(), &worker.files)
            .await
        {
            Some((content_type, page)) => error_with(status, content_type, page),
            None => plain_error(status),
        }
    }

    fn now_ms(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }
}

/// The target an app is to see, where that is not the one the client sent.
fn target_for_app(target: &Target, path: &str, prefix: &str) -> Option<Target> {
    let sent = target.path();
    let path = match strip_prefix(path, prefix) {
        Some(rest) if rest.len() != path.len() => encode_path(rest),
        _ => forward_path(sent, path),
    };
    if path == sent {
        return None;
    }
    let mut raw = path.into_owned();
    if let Some(query) = target.query() {
        raw.push('?');
        raw.push_str(query);
    }
    Some(Target::new(raw))
}

/// An error to be answered with a page.
struct Refusal {
    status: StatusCode,
    field: Option<(&'static str, String)>,
    close: bool,
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self {
            status,
            field: None,
            close: false,
        }
    }
}

impl From<files::Refusal> for Refusal {
    fn from(refusal: files::Refusal) -> Self {
        let (status, field) = match refusal {
            files::Refusal::Status(status) => return status.into(),
            files::Refusal::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                ("Allow", "GET, HEAD".to_owned()),
            ),
            files::Refusal::Range(size) => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                ("Content-Range", format!("bytes */{size}")),
            ),
        };
        Self {
            status,
            field: Some(field),
            close: false,
        }
    }
}

impl From<dispatch::Refusal> for Refusal {
    fn from(refusal: dispatch::Refusal) -> Self {
        match refusal {
            dispatch::Refusal::TryAnother => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                field: Some((TRY_ANOTHER, "1".to_owned())),
                close: false,
            },
            dispatch::Refusal::Status { status, close } => Self {
                status,
                field: None,
                close,
            },
        }
    }
}

#[cfg(test)]
mod tests;
