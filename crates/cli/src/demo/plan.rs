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
const DEMO_NETWORK: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 0);
const LAB_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
/// The floating address of a lab.
const LAB_VIP_LAST: u8 = 100;
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
    /// Real addresses, each in a network namespace.
    pub lab: bool,
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

/// Whether these arguments can be.
pub fn check(args: &DemoStart) -> Outcome {
    Ground::of(args).map(drop)
}

impl Plan {
    pub fn new(args: &DemoStart, place: &Place, code: PathBuf) -> Outcome<Self> {
        let Ground {
            network,
            vip,
            http,
            https,
        } = Ground::of(args)?;
        let [a, b, c, _] = network.octets();
        let servers: Vec<_> = NAMES
            .into_iter()
            .zip(1..=args.servers)
            .map(|(name, last)| (name, Ipv4Addr::new(a, b, c, last)))
            .collect();
        if servers.iter().any(|(_, address)| *address == vip) {
            let what = format!("{vip} is the address of a server too");
            return Err(Failure::usage(what).next("trilith demo --network 127.0.2.0"));
        }
        if http == https {
            let what = format!("port {http} cannot be for both HTTP and HTTPS");
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
            vip,
            http,
            https,
            internal: InternalPorts::moved(0),
            lab: args.lab,
            data: place.state.clone(),
            code,
            sites,
        })
    }

    pub fn host(&self) -> &'static str {
        HOST
    }

    pub fn http_url(&self) -> String {
        url("http", self.vip, self.http)
    }

    pub fn https_url(&self) -> String {
        url("https", self.vip, self.https)
    }

    pub fn server_urls(&self) -> Vec<String> {
        let urls = self.servers.iter();
        urls.map(|(_, address)| url("http", *address, self.http))
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
             vip = \"{}{}\"\n\
             data = {}\n\
             secrets = {}\n\
             \n\
             [ports]\n\
             http = {}\n\
             https = {}\n",
            self.vip,
            if self.lab { "/24" } else { "" },
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

/// Where a demo stands: what was asked for, or what is usual.
struct Ground {
    network: Ipv4Addr,
    vip: Ipv4Addr,
    http: u16,
    https: u16,
}

impl Ground {
    fn of(args: &DemoStart) -> Outcome<Self> {
        if args.servers == 2 {
            return Err(Failure::usage(
                "two servers cannot do it: when one does not hear the other, neither knows which of \
                 them is cut off, and neither may act alone. A third one settles it; a small witness \
                 without roles is enough",
            )
            .next("trilith demo --servers 3"));
        }
        let (network, http, https) = match args.lab {
            true => (args.network.unwrap_or(LAB_NETWORK), 80, 443),
            false => (args.network.unwrap_or(DEMO_NETWORK), 8080, 8443),
        };
        let [a, b, c, _] = network.octets();
        let vip = args.vip.unwrap_or(match args.lab {
            true => Ipv4Addr::new(a, b, c, LAB_VIP_LAST),
            false => Ipv4Addr::LOCALHOST,
        });
        let fits = |address: Ipv4Addr| match args.lab {
            true => address.is_private(),
            false => address.is_loopback(),
        };
        if !fits(network) || !fits(vip) {
            return Err(match args.lab {
                true => {
                    Failure::usage("the addresses of a lab are private ones, such as 10.78.0.0")
                        .next("trilith demo --lab --network 10.78.0.0")
                }
                false => Failure::usage(
                    "without --lab the addresses are in 127.0.0.0/8, such as 127.0.2.0",
                )
                .next("trilith demo --network 127.0.2.0 --vip 127.0.2.100")
                .next("trilith demo --lab"),
            });
        }
        if args.lab && vip.octets()[..3] != [a, b, c] {
            let what = format!("{vip} is not in the servers' network {a}.{b}.{c}.0/24");
            return Err(Failure::usage(what).next("trilith demo --lab"));
        }
        Ok(Self {
            network,
            vip,
            http: args.http.unwrap_or(http),
            https: args.https.unwrap_or(https),
        })
    }
}

/// As people write it: without the port that is usual.
fn url(scheme: &str, address: Ipv4Addr, port: u16) -> String {
    match (scheme, port) {
        ("http", 80) | ("https", 443) => format!("{scheme}://{address}/"),
        _ => format!("{scheme}://{address}:{port}/"),
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
        // Not out of this machine, and not two servers.
        assert!(plan(&["--vip", "10.0.0.1"]).is_err());
        assert!(plan(&["--network", "10.0.0.0"]).is_err());
        assert!(plan(&["--lab", "--network", "8.8.8.0"]).is_err());
        assert!(plan(&["--lab", "--vip", "10.0.0.1"]).is_err());
        assert!(plan(&["--servers", "2"]).is_err());
        assert!(plan(&["--servers", "1"]).is_ok());
    }

    #[test]
    fn a_lab_has_real_addresses_and_ports() {
        let plan = plan(&["--lab"]).unwrap();
        let config = parse(&plan);
        assert_eq!(config.servers[2].address.to_string(), "10.77.0.3");
        assert_eq!((config.ports.http, config.ports.https), (80, 443));
        assert_eq!(plan.http_url(), "http://10.77.0.100/");
        assert!(plan.config_text().contains("vip = \"10.77.0.100/24\"\n"));
    }
}
