//! What a demo consists of, and its config file.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::args::DemoStart;
use crate::demo::place::Place;
use crate::failure::{Failure, Outcome, at};

const HOST: &str = "www.foobar.com";
const NAMES: [&str; 9] = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
];
/// Further servers have no database.
const DATABASE_SERVERS: usize = 3;

/// Addresses, ports and paths of a demo.
#[derive(Clone, Debug)]
pub struct Plan {
    pub servers: Vec<(&'static str, Ipv4Addr)>,
    pub vip: Ipv4Addr,
    pub http: u16,
    pub https: u16,
    pub internal: InternalPorts,
    data: PathBuf,
    code: PathBuf,
    /// `[[site]]` and what belongs to it, from a file of the user's.
    sites: Option<String>,
}

/// The ports that nobody types: they move together when one of them is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InternalPorts {
    pub cluster: u16,
    pub postgres: u16,
    pub sql: u16,
    pub sql_replica: u16,
    pub admin: u16,
}

impl InternalPorts {
    /// The defaults of the config file, moved up.
    pub fn moved(by: u16) -> Self {
        Self {
            cluster: 7400 + by,
            postgres: 5433 + by,
            sql: 5432 + by,
            sql_replica: 5434 + by,
            admin: 7480 + by,
        }
    }

    pub fn each(&self) -> [u16; 5] {
        [
            self.cluster,
            self.postgres,
            self.sql,
            self.sql_replica,
            self.admin,
        ]
    }
}

impl Plan {
    pub fn new(args: &DemoStart, place: &Place, code: PathBuf) -> Outcome<Self> {
        let [a, b, c, _] = args.network.octets();
        let servers: Vec<_> = NAMES
            .into_iter()
            .zip(1..=args.servers)
            .map(|(name, last)| (name, Ipv4Addr::new(a, b, c, last)))
            .collect();
        if servers.iter().any(|(_, address)| *address == args.vip) {
            let what = format!("{} is the address of a server too", args.vip);
            return Err(Failure::usage(what).next("trilith demo --network 127.0.2.0"));
        }
        if args.http == args.https {
            let what = format!("port {} cannot be for both HTTP and HTTPS", args.http);
            return Err(Failure::usage(what).next("trilith demo --http 8080 --https 8443"));
        }
        if args.servers == 2 {
            let what = "two servers cannot outvote each other";
            return Err(Failure::usage(what).next("trilith demo --servers 3"));
        }
        let sites = match &args.sites {
            Some(path) => Some(std::fs::read_to_string(path).map_err(at(path))?),
            None => None,
        };
        Ok(Self {
            servers,
            vip: args.vip,
            http: args.http,
            https: args.https,
            internal: InternalPorts::moved(0),
            data: place.state.clone(),
            code,
            sites,
        })
    }

    pub fn host(&self) -> &'static str {
        HOST
    }

    pub fn http_url(&self) -> String {
        format!("http://{}:{}/", self.vip, self.http)
    }

    pub fn https_url(&self) -> String {
        format!("https://{}:{}/", self.vip, self.https)
    }

    pub fn server_urls(&self) -> Vec<String> {
        let urls = self.servers.iter();
        urls.map(|(_, address)| format!("http://{address}:{}/", self.http))
            .collect()
    }

    /// Where the servers and the floating address listen for the public.
    pub fn public(&self) -> Vec<SocketAddr> {
        let addresses = std::iter::once(self.vip).chain(self.servers.iter().map(|(_, a)| *a));
        addresses
            .flat_map(|address| {
                [self.http, self.https].map(|port| (IpAddr::V4(address), port).into())
            })
            .collect()
    }

    /// The whole config file.
    pub fn config_text(&self) -> String {
        let quoted = |path: &PathBuf| toml_string(&path.display().to_string());
        let mut text = format!(
            "# Written by `trilith demo` at each start: what you change here is lost.\n\
             # `trilith init` writes a file to keep, `trilith explain` describes its keys.\n\
             \n\
             [cluster]\n\
             name = \"demo\"\n\
             vip = \"{}\"\n\
             data = {}\n\
             secrets = {}\n\
             \n\
             [ports]\n\
             http = {}\n\
             https = {}\n",
            self.vip,
            quoted(&self.data),
            quoted(&self.data.join("secrets")),
            self.http,
            self.https,
        );
        if self.internal != InternalPorts::moved(0) {
            let InternalPorts {
                cluster,
                postgres,
                sql,
                sql_replica,
                admin,
            } = self.internal;
            // Writing into a String cannot fail, here and below.
            let _ = write!(
                text,
                "cluster = {cluster}\npostgres = {postgres}\nsql = {sql}\n\
                 sql_replica = {sql_replica}\nadmin = {admin}\n"
            );
        }
        let _ = write!(text, "\n[code]\npath = {}\n", quoted(&self.code));
        for (index, (name, address)) in self.servers.iter().enumerate() {
            let _ = write!(
                text,
                "\n[[server]]\nname = \"{name}\"\naddress = \"{address}\"\n"
            );
            if index >= DATABASE_SERVERS {
                text.push_str("roles = [\"edge\", \"web\"]\n");
            }
        }
        text.push_str("\n[database]\n");
        match &self.sites {
            Some(sites) => {
                text.push('\n');
                text.push_str(sites);
            }
            None => {
                text.push_str(&self.site(HOST, "the example site"));
                // A browser on this machine asks for the address.
                text.push_str(&self.site(&self.vip.to_string(), "the same by its address"));
            }
        }
        text
    }

    fn site(&self, host: &str, what: &str) -> String {
        let mut text = format!(
            "\n# {what}; HTTP is not redirected, so that both can be tried\n\
             [[site]]\n\
             host = \"{host}\"\n\
             tls = \"internal\"\n\
             https_redirect = false\n"
        );
        if self.code.join("public/assets").is_dir() {
            text.push_str("\n[[site.route]]\npath = \"/assets/*\"\nfiles = \"public/assets\"\n");
        }
        text.push_str("\n[[site.route]]\npath = \"/*\"\napp = \"web\"\n");
        text
    }
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;
    use trilith_config::{Config, Role};

    use super::*;
    use crate::args::{Args, Command};

    fn plan(arguments: &[&str]) -> Outcome<Plan> {
        let args = Args::parse_from([&["trilith", "demo"], arguments].concat());
        let Command::Demo(demo) = args.command else {
            panic!()
        };
        let place = Place {
            dir: "/demo".into(),
            state: "/demo \"1\"".into(),
        };
        Plan::new(&demo.start, &place, "/code".into())
    }

    fn parse(plan: &Plan) -> Config {
        let loaded = Config::parse("trilith.toml", plan.config_text(), Path::new("/"));
        loaded
            .unwrap_or_else(|d| panic!("{}", d.render(false)))
            .config
    }

    #[test]
    fn three_servers() {
        let plan = plan(&[]).unwrap();
        let config = parse(&plan);
        let addresses: Vec<_> = config
            .servers
            .iter()
            .map(|s| s.address.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.1.1", "127.0.1.2", "127.0.1.3"]);
        assert!(config.servers.iter().all(|s| s.has(Role::Db)));
        assert_eq!(config.sites.len(), 2);
        assert_eq!(config.cluster.data, Path::new("/demo \"1\""));
        assert_eq!(plan.public().len(), 8);
    }

    #[test]
    fn many_servers_on_other_addresses_and_ports() {
        let mut plan = plan(&[
            "--servers",
            "5",
            "--network",
            "127.7.0.0",
            "--vip",
            "127.7.0.100",
            "--http",
            "9080",
        ])
        .unwrap();
        plan.internal = InternalPorts::moved(10_000);
        let config = parse(&plan);
        assert_eq!(config.servers.len(), 5);
        assert!(!config.servers[3].has(Role::Db));
        assert_eq!(config.ports.sql, 15_432);
        assert_eq!(plan.http_url(), "http://127.7.0.100:9080/");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(plan(&["--vip", "127.0.1.2"]).is_err());
        assert!(plan(&["--http", "8443"]).is_err());
        assert!(plan(&["--servers", "2"]).is_err());
    }
}
