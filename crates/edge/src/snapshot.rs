//! Everything a request needs to know, immutable: built from the options, swapped as a whole.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use trilith_balance::{Algorithm, Balancer, Members, Mode, ServerSpec, ServerState};
use trilith_route::{HostTable, PathPattern, PathTable};
use trilith_web::{HEALTH_PATH, INTERNAL_HOST, RouteId};

use crate::error::Error;
use crate::options::{Action, Options, Route, Upstream, WebServer};
use crate::pool::{Backend, CheckSpec, PoolId, Probe, Queue, ServerPool};

#[derive(Debug)]
pub(crate) struct Snapshot {
    pub options: Options,
    pub hosts: HostTable<HostEntry>,
    pub sites: Vec<SitePlan>,
    pub pools: Vec<Arc<ServerPool>>,
    pub balancers: Vec<BalancerPlan>,
}

/// What a host name leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostEntry {
    pub site: usize,
    /// The site's own name, not an alias.
    pub is_canonical: bool,
}

#[derive(Debug)]
pub(crate) struct SitePlan {
    pub host: String,
    pub https_redirect: bool,
    pub routes: PathTable<RoutePlan>,
    /// In the order of the file, for metrics.
    pub patterns: Vec<PathPattern>,
}

#[derive(Debug)]
pub(crate) struct RoutePlan {
    pub id: RouteId,
    pub action: PlannedAction,
    pub body_max: u64,
    pub strip_prefix: Option<String>,
}

#[derive(Debug)]
pub(crate) enum PlannedAction {
    /// By the web server in this process, whatever others there are.
    LocalFiles,
    /// Position in [`Snapshot::balancers`].
    Balance(usize),
    /// One of [`Action::Redirect`] and [`Action::Respond`].
    Answer(Action),
}

/// One way of balancing over one pool. Routes that agree in both share it, and its turns.
#[derive(Debug)]
pub(crate) struct BalancerPlan {
    /// Position in [`Snapshot::pools`].
    pub pool: usize,
    pub algorithm: Algorithm,
    pub mode: Mode,
    pub balancer: Balancer,
}

impl Snapshot {
    /// `has_web`: this process has a web server. States, queues and results of checks of servers
    /// that `previous` had, too, are taken over.
    pub fn build(
        options: Options,
        has_web: bool,
        previous: Option<&Snapshot>,
    ) -> Result<Self, Error> {
        let mut builder = Builder {
            options: &options,
            has_web,
            previous,
            pools: Vec::new(),
            balancers: Vec::new(),
        };
        let mut hosts = Vec::new();
        let mut sites = Vec::new();
        for (number, site) in options.sites.iter().enumerate() {
            let entry = |is_canonical| HostEntry {
                site: number,
                is_canonical,
            };
            hosts.push((site.host.clone(), entry(true)));
            hosts.extend(site.aliases.iter().map(|a| (a.clone(), entry(false))));
            let routes = site
                .routes
                .iter()
                .enumerate()
                .map(|(route, spec)| {
                    let id = RouteId {
                        sites: options.sites_id,
                        site: number,
                        route,
                    };
                    Ok((spec.path.clone(), builder.route(id, &site.host, spec)?))
                })
                .collect::<Result<Vec<_>, Error>>()?;
            sites.push(SitePlan {
                host: site.host.clone(),
                https_redirect: site.https_redirect,
                patterns: site.routes.iter().map(|r| r.path.clone()).collect(),
                routes: PathTable::new(routes).map_err(|source| Error::Site {
                    site: site.host.clone(),
                    source,
                })?,
            });
        }
        let hosts = HostTable::new(hosts, None).map_err(|source| Error::Site {
            site: source.to_string(),
            source,
        })?;
        let Builder {
            pools, balancers, ..
        } = builder;
        Ok(Self {
            hosts,
            sites,
            pools,
            balancers,
            options,
        })
    }

    pub fn is_trusted(&self, ip: IpAddr) -> bool {
        is_trusted(&self.options.trusted_proxies, ip)
    }
}

pub(crate) fn is_trusted(trusted: &[IpNet], ip: IpAddr) -> bool {
    // Most have none.
    !trusted.is_empty() && {
        let ip = ip.to_canonical();
        trusted.iter().any(|net| net.contains(&ip))
    }
}

struct Builder<'a> {
    options: &'a Options,
    has_web: bool,
    previous: Option<&'a Snapshot>,
    pools: Vec<Arc<ServerPool>>,
    balancers: Vec<BalancerPlan>,
}

impl Builder<'_> {
    fn route(&mut self, id: RouteId, site: &str, route: &Route) -> Result<RoutePlan, Error> {
        let action = match &route.action {
            Action::Files { .. } if self.has_web => PlannedAction::LocalFiles,
            Action::Files { balance, mode } => {
                let pool = self.web_pool(PoolId::Files, site, route)?;
                self.balancer(pool, *balance, *mode)
            }
            Action::App { app, balance, mode } => {
                let pool = self.web_pool(PoolId::App(app.as_str().into()), site, route)?;
                self.balancer(pool, *balance, *mode)
            }
            Action::Upstream(name) => {
                let upstream = self.options.upstreams.iter().find(|u| u.name == *name);
                let upstream = upstream.ok_or_else(|| Error::UnknownUpstream {
                    site: site.to_owned(),
                    path: route.path.clone(),
                    upstream: name.clone(),
                })?;
                let pool = self.upstream_pool(upstream)?;
                self.balancer(pool, upstream.balance, upstream.mode)
            }
            answer @ (Action::Redirect { .. } | Action::Respond { .. }) => {
                PlannedAction::Answer(answer.clone())
            }
        };
        Ok(RoutePlan {
            id,
            action,
            body_max: route.body_max,
            strip_prefix: route.strip_prefix.clone(),
        })
    }

    fn balancer(&mut self, pool: usize, algorithm: Algorithm, mode: Mode) -> PlannedAction {
        let same = |b: &BalancerPlan| (b.pool, b.algorithm, b.mode) == (pool, algorithm, mode);
        let at = self.balancers.iter().position(same).unwrap_or_else(|| {
            self.balancers.push(BalancerPlan {
                pool,
                algorithm,
                mode,
                balancer: Balancer::new(self.pools[pool].members.clone(), algorithm, mode),
            });
            self.balancers.len() - 1
        });
        PlannedAction::Balance(at)
    }

    fn web_pool(&mut self, id: PoolId, site: &str, route: &Route) -> Result<usize, Error> {
        if let Some(at) = self.pools.iter().position(|pool| pool.id == id) {
            return Ok(at);
        }
        let options = self.options;
        if options.web_servers.is_empty() {
            return Err(Error::NoWebServer {
                site: site.to_owned(),
                path: route.path.clone(),
            });
        }
        let (specs, backends) = options
            .web_servers
            .iter()
            .map(|server| self.web_server(&id, server))
            .unzip();
        let path = match id.app() {
            Some(app) => format!("{HEALTH_PATH}?app={}", trilith_route::encode_path(app)),
            None => HEALTH_PATH.to_owned(),
        };
        let check = CheckSpec {
            policy: options.web_health,
            host: INTERNAL_HOST.to_owned(),
            path,
            status_max: 200,
        };
        self.pools.push(Arc::new(ServerPool {
            queue: self.queue(&id),
            members: Arc::new(Members::new(specs)),
            backends,
            check: Some(check),
            connect_timeout: options.web_connect_timeout,
            response_timeout: options.web_response_timeout,
            id,
        }));
        Ok(self.pools.len() - 1)
    }

    fn web_server(&self, id: &PoolId, server: &WebServer) -> (ServerSpec, Backend) {
        let name = server.name.as_str();
        let (state, probe) = self.state(id, name, server.address, true);
        let spec = ServerSpec {
            key: name.to_owned(),
            weight: 1,
            backup: false,
            in_flight_max: 0,
            state,
        };
        let backend = Backend {
            name: name.into(),
            address: server.address,
            tls: server.tls.clone(),
            is_local: self.has_web && server.name == self.options.server,
            probe,
        };
        (spec, backend)
    }

    fn upstream_pool(&mut self, upstream: &Upstream) -> Result<usize, Error> {
        let id = PoolId::Upstream(upstream.name.as_str().into());
        if let Some(at) = self.pools.iter().position(|pool| pool.id == id) {
            return Ok(at);
        }
        if upstream.servers.is_empty() {
            return Err(Error::EmptyUpstream {
                upstream: upstream.name.clone(),
            });
        }
        let server = |server: &crate::options::UpstreamServer| {
            let key = server.address.to_string();
            let checked = upstream.health.is_some();
            let (state, probe) = self.state(&id, &key, server.address, checked);
            let backend = Backend {
                name: key.as_str().into(),
                address: server.address,
                tls: None,
                is_local: false,
                probe,
            };
            let spec = ServerSpec {
                key,
                weight: server.weight,
                backup: server.backup,
                in_flight_max: server.max_connections.unwrap_or(0),
                state,
            };
            (spec, backend)
        };
        let (specs, backends): (Vec<_>, Vec<_>) = upstream.servers.iter().map(server).unzip();
        let check = upstream.health.as_ref().map(|health| CheckSpec {
            policy: health.policy,
            host: upstream.name.clone(),
            path: health.path.clone(),
            status_max: 399,
        });
        self.pools.push(Arc::new(ServerPool {
            queue: self.queue(&id),
            members: Arc::new(Members::new(specs)),
            backends,
            check,
            connect_timeout: upstream.connect_timeout,
            response_timeout: upstream.response_timeout,
            id,
        }));
        Ok(self.pools.len() - 1)
    }

    fn known_pool(&self, id: &PoolId) -> Option<&ServerPool> {
        let pools = &self.previous?.pools;
        pools.iter().find(|pool| pool.id == *id).map(|pool| &**pool)
    }

    fn queue(&self, id: &PoolId) -> Arc<Queue> {
        self.known_pool(id)
            .map_or_else(Arc::default, |pool| pool.queue.clone())
    }

    /// What the snapshot before knew of a server, so that a reload forgets nothing. `checked`:
    /// whether active checks will tell its health; if that changes, it begins anew.
    fn state(
        &self,
        pool: &PoolId,
        key: &str,
        address: SocketAddr,
        checked: bool,
    ) -> (Arc<ServerState>, Arc<Probe>) {
        let known = self
            .known_pool(pool)
            .filter(|pool| pool.check.is_some() == checked)
            .and_then(|pool| {
                let mut servers = pool.members.servers().iter().zip(&pool.backends);
                servers.find(|(spec, backend)| spec.key == key && backend.address == address)
            });
        match known {
            Some((spec, backend)) => (spec.state.clone(), backend.probe.clone()),
            None if checked => (Arc::new(ServerState::checking()), Arc::default()),
            None => (Arc::new(ServerState::unchecked()), Arc::default()),
        }
    }
}

#[cfg(test)]
mod tests;
