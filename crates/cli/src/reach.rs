//! How this program gets at a cluster's servers on this machine: directly, or in a lab by entering
//! their network namespaces.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use trilith_config::{Config, Server};

use crate::http::{self, Answer};
use crate::lab::{Lab, Namespace};

#[derive(Clone, Debug, Default)]
pub struct Reach {
    pub lab: Option<Lab>,
}

impl Reach {
    /// To the servers of this config: a demo keeps its state beside the names of its lab.
    pub fn of(config: &Config) -> Self {
        Self::of_folder(&config.cluster.data)
    }

    pub fn of_folder(state: &Path) -> Self {
        // A record that cannot be read is as good as none: the servers will not answer, and that is
        // told.
        let lab = Lab::recorded(state).ok().flatten();
        Self { lab }
    }

    /// Where the admin ports of the servers are, each once: outside of a lab servers may share one.
    pub fn admin_ports<'a>(
        &self,
        config: &'a Config,
    ) -> impl Iterator<Item = (&'a Server, SocketAddr)> + use<'a> {
        let in_lab = self.lab.is_some();
        let mut seen: Vec<SocketAddr> = Vec::new();
        config.servers.iter().filter_map(move |server| {
            let address = SocketAddr::new(server.loopback(), config.ports.admin);
            if !in_lab && seen.contains(&address) {
                return None;
            }
            seen.push(address);
            Some((server, address))
        })
    }

    /// `GET` of a server's admin port.
    pub fn get_admin(
        &self,
        server: &Server,
        address: SocketAddr,
        path: &str,
    ) -> io::Result<Answer> {
        self.inside(Some(server.name.as_str()), || {
            http::get(address, &address.to_string(), path)
        })?
    }

    /// `GET` as the site's users do it.
    pub fn get_public(&self, address: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
        self.inside(None, || http::get(address, host, path))?
    }

    /// Runs `work` where a server lives, or for `None` where its users are.
    pub fn inside<T: Send>(
        &self,
        server: Option<&str>,
        work: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        match self.namespace(server) {
            Some(namespace) => namespace.inside(work),
            None => Ok(work()),
        }
    }

    /// `None`: this program's own.
    pub fn namespace(&self, server: Option<&str>) -> Option<Namespace> {
        let lab = self.lab.as_ref()?;
        // A server that is not in the lab has no namespace, and entering it says so.
        Some(server.map_or_else(|| lab.client(), |name| lab.namespace(name)))
    }
}
