//! Another config for a server that runs: checked as a whole, then put in place without closing a
//! connection and without forgetting what is known of other servers.
//!
//! What a running server cannot change (ports, its own roles, apps, databases, ...) stays as it was started
//! until it is restarted; `merge.rs` draws the line, and `trilith_config::diff` says so to people.

pub(crate) mod admin;
mod merge;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use trilith_app::Release;
use trilith_config::{Changes, Config, Diagnostics, Loaded, Role, Server, diff};
use trilith_edge::Edge;
use trilith_tls::{Ca, PeerIdentity, SiteCertificate, SiteCertificates};
use trilith_web::Web;

use crate::error::NodeError;
use crate::lower;
use crate::secrets;
use crate::tokens::InForce;

/// What a reload works on. `web` and `edge` are `None` on a server without that role.
pub(crate) struct Parts {
    pub server: Server,
    /// The server's config file: relative paths count from its folder.
    pub path: PathBuf,
    /// What this server runs with. Its present value is what it was started with. Written by
    /// [`Reloader::apply`] alone: what a restart is needed for is as it was in `config`; `text` is the
    /// whole new file.
    pub in_force: watch::Sender<InForce>,
    pub ca: Arc<Ca>,
    pub identity: PeerIdentity,
    pub site_certificates: SiteCertificates,
    pub web: Option<Arc<Web>>,
    /// What `web` serves from: apps are looked up in its Procfile.
    pub release: Option<Release>,
    pub edge: Option<Arc<Edge>>,
}

/// Checks and applies configs. One per process.
pub(crate) struct Reloader {
    parts: Parts,
    started: Arc<Config>,
    /// The whole config that was applied last.
    latest: Mutex<Arc<Config>>,
    /// [`trilith_web::Options::sites_id`] of the next set of sites.
    next_sites: AtomicU64,
    /// Held while one is put in place.
    applying: tokio::sync::Mutex<()>,
}

/// A text that can be applied.
#[derive(Debug)]
pub(crate) struct Checked {
    pub config: Arc<Config>,
    /// Against what was applied last.
    pub changes: Changes,
    pub warnings: Diagnostics,
}

/// What an apply left to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Paths of what this server does only when it is restarted.
    pub restart: Vec<String>,
}

/// A config, lowered into what the services take.
struct Lowered {
    certificates: Option<Vec<SiteCertificate>>,
    web: Option<trilith_web::Options>,
    edge: Option<trilith_edge::Options>,
}

impl Reloader {
    pub fn new(parts: Parts) -> Arc<Self> {
        let started = parts.in_force.borrow().config.clone();
        Arc::new(Self {
            parts,
            latest: Mutex::new(started.clone()),
            started,
            next_sites: AtomicU64::new(1),
            applying: tokio::sync::Mutex::new(()),
        })
    }

    /// The whole config that was applied last, with what waits for a restart.
    pub fn latest(&self) -> Arc<Config> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    pub fn server(&self) -> &Server {
        &self.parts.server
    }

    pub fn path(&self) -> &Path {
        &self.parts.path
    }

    /// Everything short of using it: parses, opens what it names, builds what the services would take.
    /// Blocks on files.
    ///
    /// # Errors
    /// Everything that is wrong with the text; or what is wrong with using it here.
    pub fn check(&self, text: &str) -> Result<Checked, Diagnostics> {
        let loaded = self.parse(text)?;
        let config = Arc::new(loaded.config);
        self.dry_run(&config).map_err(|error| {
            let name = self.parts.path.display().to_string();
            let next = error.next_command(&self.parts.path);
            Diagnostics::about_file(&name, &error.to_string(), next.as_deref())
        })?;
        Ok(Checked {
            changes: diff(&self.latest(), &config),
            config,
            warnings: loaded.warnings,
        })
    }

    /// Parses alone.
    pub fn parse(&self, text: &str) -> Result<Loaded, Diagnostics> {
        let path = &self.parts.path;
        let folder = path.parent().unwrap_or(Path::new("/"));
        Config::parse(&path.display().to_string(), text, folder)
    }

    /// Serves by it from the next request on. No connection closes; health, drain and instances stay.
    ///
    /// # Errors
    /// What [`Reloader::check`] would find; then everything is as it was.
    pub async fn apply(
        self: &Arc<Self>,
        config: Arc<Config>,
        text: Arc<str>,
    ) -> Result<Applied, NodeError> {
        let _applying = self.applying.lock().await;
        let this = self.clone();
        // Reads certificates from files.
        let applied = tokio::task::spawn_blocking(move || this.apply_now(config, text)).await;
        applied.map_err(NodeError::service)?
    }

    /// What this server would still need a restart for.
    pub fn restart_needed(&self, config: &Config) -> Vec<String> {
        diff(&self.started, config).restart_of(&self.parts.server.name)
    }

    fn apply_now(&self, config: Arc<Config>, text: Arc<str>) -> Result<Applied, NodeError> {
        self.is_in(&config)?;
        let effective = merge::effective(&self.started, &config, &self.parts.server);
        let new = self.lower(&effective, self.next_sites.fetch_add(1, Relaxed))?;
        self.try_out(&new)?;
        let before = self.parts.in_force.borrow().config.clone();
        if let Err(error) = self.put_in_place(new) {
            // It was tried out: this is not to be expected. Nothing of it may stay.
            let old = self.lower(&before, self.next_sites.fetch_add(1, Relaxed))?;
            self.put_in_place(old)?;
            return Err(error);
        }
        let restart = self.restart_needed(&config);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = config;
        self.parts.in_force.send_replace(InForce {
            config: Arc::new(effective),
            text,
        });
        Ok(Applied { restart })
    }

    fn dry_run(&self, config: &Config) -> Result<(), NodeError> {
        self.is_in(config)?;
        let effective = merge::effective(&self.started, config, &self.parts.server);
        self.try_out(&self.lower(&effective, u64::MAX)?)?;
        self.dry_run_restart(config)
    }

    /// What a restart with it would stumble over, as far as that can be known now.
    fn dry_run_restart(&self, config: &Config) -> Result<(), NodeError> {
        let me = &self.parts.server.name;
        let Some(server) = config.server(me) else {
            return Ok(());
        };
        // A single server makes what it needs when it starts.
        let secrets = match config.servers.len() {
            1 => None,
            _ => secrets::load(config)?.database,
        };
        let database = match secrets {
            Some(secrets) => lower::postgres::options(config, server, &secrets)?,
            None => None,
        };
        if let Some(options) = database {
            options.validate().map_err(NodeError::service)?;
        }
        if server.has(Role::Web) {
            let path = &config.code.path;
            std::fs::read_dir(path).map_err(NodeError::file(path))?;
            let same_code = config.code == self.started.code;
            if let (Some(release), true) = (&self.parts.release, same_code) {
                lower::app::apps(config, release)?;
            }
        }
        Ok(())
    }

    fn is_in(&self, config: &Config) -> Result<(), NodeError> {
        let name = &self.parts.server.name;
        match config.server(name) {
            Some(_) => Ok(()),
            None => Err(NodeError::NoSuchServer {
                name: name.to_string(),
                known: config.servers.iter().map(|s| s.name.to_string()).collect(),
            }),
        }
    }

    fn lower(&self, config: &Config, sites_id: u64) -> Result<Lowered, NodeError> {
        let parts = &self.parts;
        let web = match &parts.web {
            Some(_) => {
                // The folder is the web server's own.
                let mut options = lower::web::options(config, Path::new("/"))?;
                options.sites_id = sites_id;
                Some(options)
            }
            None => None,
        };
        let (certificates, edge) = match &parts.edge {
            Some(edge) => {
                let now = SystemTime::now();
                let certificates = lower::tls::site_certificates(config, &parts.ca, now)?;
                let server = config.server(&parts.server.name).unwrap_or(&parts.server);
                let mut options = lower::edge::options(
                    config,
                    server,
                    &parts.identity,
                    &parts.site_certificates,
                )?;
                options.sites_id = sites_id;
                keep_tls(&mut options, edge.options());
                (Some(certificates), Some(options))
            }
            None => (None, None),
        };
        Ok(Lowered {
            certificates,
            web,
            edge,
        })
    }

    fn try_out(&self, new: &Lowered) -> Result<(), NodeError> {
        if let (Some(web), Some(options)) = (&self.parts.web, &new.web) {
            web.check(options).map_err(NodeError::service)?;
        }
        if let (Some(edge), Some(options)) = (&self.parts.edge, &new.edge) {
            edge.check(options.clone()).map_err(NodeError::service)?;
        }
        Ok(())
    }

    /// The web server before the edge: an edge that knows a route finds it there.
    fn put_in_place(&self, new: Lowered) -> Result<(), NodeError> {
        if let (Some(web), Some(options)) = (&self.parts.web, &new.web) {
            web.replace(options).map_err(NodeError::service)?;
        }
        if let Some(certificates) = &new.certificates {
            self.parts.site_certificates.replace(certificates);
        }
        if let (Some(edge), Some(options)) = (&self.parts.edge, new.edge) {
            // What needs a restart is known from the configs.
            let _ = edge.replace(options).map_err(NodeError::service)?;
        }
        Ok(())
    }
}

/// New TLS configurations would end sessions that could be resumed, and close idle connections to web
/// servers.
fn keep_tls(options: &mut trilith_edge::Options, before: trilith_edge::Options) {
    if before.tls.is_some() {
        options.tls = before.tls;
    }
    let kept = before.web_servers.into_iter().find_map(|server| server.tls);
    if let Some(kept) = kept {
        for tls in options
            .web_servers
            .iter_mut()
            .filter_map(|s| s.tls.as_mut())
        {
            tls.config = kept.config.clone();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
