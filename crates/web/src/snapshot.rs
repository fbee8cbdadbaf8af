//! Sites and routes, ready to serve: what one request reads from start to end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use trilith_http::StatusCode;
use trilith_route::{PathPattern, Router};

use crate::dispatch::{App, Apps};
use crate::error::Error;
use crate::files::{Files, Folder, is_beneath, open_code};
use crate::options::{Action, RouteOptions, SiteOptions};
use crate::run::RouteId;

#[derive(Debug)]
pub struct Snapshot {
    /// [`crate::Options::sites_id`].
    pub sites_id: u64,
    /// What it was made of, for the next one.
    pub options: Arc<[SiteOptions]>,
    pub code_root: PathBuf,
    router: Router<()>,
    sites: Vec<Site>,
    /// The whole code base, for error pages.
    pub code: Arc<Folder>,
}

#[derive(Debug)]
struct Site {
    routes: Vec<Route>,
    /// Paths in `Snapshot::code`, with a leading slash.
    error_pages: Vec<(StatusCode, String)>,
}

/// A route as it is served.
#[derive(Debug)]
pub enum Route {
    Files {
        folder: Arc<Folder>,
        strip_prefix: String,
    },
    App {
        app: Arc<App>,
        strip_prefix: String,
        body_max: u64,
    },
    Upstream,
    Redirect {
        redirect: Redirect,
        strip_prefix: String,
    },
    Respond {
        status: StatusCode,
        content_type: String,
        cache_control: Option<String>,
        body: Bytes,
    },
}

/// A `Location` with a hole for the path.
#[derive(Debug)]
pub struct Redirect {
    pub status: StatusCode,
    pub before: String,
    /// `None`: there is no hole.
    pub after: Option<String>,
}

impl Snapshot {
    pub fn new(
        sites_id: u64,
        options: Arc<[SiteOptions]>,
        code_root: &Path,
        files: &Files,
        apps: &Apps,
    ) -> Result<Self, Error> {
        open_code(code_root).map_err(|errno| Error::CodeBase {
            path: code_root.to_owned(),
            source: errno.into(),
        })?;
        let mut router = Router::builder();
        let mut sites = Vec::with_capacity(options.len());
        for site in options.iter() {
            let id = router.site(site.routes.iter().map(|route| (route.path.clone(), ())));
            for host in std::iter::once(&site.host).chain(&site.aliases) {
                router.host(host, id);
            }
            if site.is_default {
                router.default_site(id);
            }
            sites.push(Site::new(site, code_root, files, apps)?);
        }
        Ok(Self {
            router: router.build()?,
            sites,
            code: Arc::new(files.folder(code_root, Path::new(""), false, &[], None)),
            code_root: code_root.to_owned(),
            sites_id,
            options,
        })
    }

    pub fn site(&self, host: &str) -> Option<usize> {
        self.router.site(host)
    }

    /// For a normal path.
    pub fn find(&self, site: usize, path: &str) -> Option<RouteId> {
        let found = self.router.route(site, path)?;
        Some(RouteId {
            sites: self.sites_id,
            site,
            route: found.route,
        })
    }

    pub fn route(&self, id: RouteId) -> Option<&Route> {
        self.sites.get(id.site)?.routes.get(id.route)
    }

    /// The page for an error, in [`Snapshot::code`].
    pub fn error_page(&self, site: usize, status: StatusCode) -> Option<&str> {
        let pages = &self.sites.get(site)?.error_pages;
        let (_, path) = pages.iter().find(|(of, _)| *of == status)?;
        Some(path)
    }

    /// The apps that routes lead to.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.sites
            .iter()
            .flat_map(|site| &site.routes)
            .filter_map(|route| match route {
                Route::App { app, .. } => Some(&**app),
                _ => None,
            })
    }
}

impl Site {
    fn new(site: &SiteOptions, code: &Path, files: &Files, apps: &Apps) -> Result<Self, Error> {
        let inside = |path: &Path| match is_beneath(path) {
            true => Ok(()),
            false => Err(Error::OutsideCodeBase {
                site: site.host.clone(),
                path: path.to_owned(),
            }),
        };
        let mut error_pages = Vec::with_capacity(site.error_pages.len());
        for (status, path) in &site.error_pages {
            inside(path)?;
            let path = path.to_str().ok_or_else(|| Error::OutsideCodeBase {
                site: site.host.clone(),
                path: path.clone(),
            })?;
            // File names are looked up by normal paths, where a percent sign is an escape.
            error_pages.push((*status, format!("/{}", path.replace('%', "%25"))));
        }
        let mut routes = Vec::with_capacity(site.routes.len());
        for route in &site.routes {
            if let Action::Files(path) = &route.action {
                inside(path)?;
            }
            routes.push(Route::new(route, code, files, apps));
        }
        Ok(Self {
            routes,
            error_pages,
        })
    }
}

impl Route {
    fn new(route: &RouteOptions, code: &Path, files: &Files, apps: &Apps) -> Self {
        let strip_prefix = route.strip_prefix.clone().unwrap_or_default();
        match &route.action {
            Action::Files(path) => {
                let exact = matches!(route.path, PathPattern::Exact(_));
                let cache_control = route.cache_control.as_deref();
                let folder = files.folder(code, path, exact, &route.index, cache_control);
                let prefix = route.path.prefix();
                Self::Files {
                    folder: Arc::new(folder),
                    strip_prefix: route
                        .strip_prefix
                        .clone()
                        .unwrap_or_else(|| prefix.to_owned()),
                }
            }
            Action::App(name) => Self::App {
                app: apps.get(name),
                strip_prefix,
                body_max: route.body_max,
            },
            Action::Upstream => Self::Upstream,
            Action::Redirect { to, status } => Self::Redirect {
                redirect: Redirect::new(to, *status),
                strip_prefix,
            },
            Action::Respond {
                status,
                content_type,
                body,
            } => Self::Respond {
                status: *status,
                content_type: content_type.clone(),
                cache_control: route.cache_control.clone(),
                body: body.clone(),
            },
        }
    }
}

impl Redirect {
    fn new(to: &str, status: StatusCode) -> Self {
        let hole = ["{path}", "$path"]
            .iter()
            .find_map(|hole| to.split_once(hole));
        match hole {
            None => Self {
                status,
                before: to.to_owned(),
                after: None,
            },
            // The path brings its own slash.
            Some((before, after)) => Self {
                status,
                before: before.strip_suffix('/').unwrap_or(before).to_owned(),
                after: Some(after.to_owned()),
            },
        }
    }

    /// `path` in its wire form.
    pub fn location(&self, path: &str, query: Option<&str>) -> String {
        let Some(after) = &self.after else {
            return self.before.clone();
        };
        let mut location = format!("{}{path}{after}", self.before);
        if let Some(query) = query {
            location.push(if location.contains('?') { '&' } else { '?' });
            location.push_str(query);
        }
        location
    }
}
