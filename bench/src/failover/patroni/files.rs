//! Configurations of Patroni, etcd and HAProxy. Pure.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::Node;
use crate::report::System;

pub const POSTGRES_PORT: u16 = 5432;
pub const REST_PORT: u16 = 8008;
const ENTRY_PORT: u16 = 5000;
/// Of everybody: nothing leaves the namespaces.
pub const PASSWORD: &str = "bench";

/// Run once as superuser, one after the other; the second one may be there from an attempt before.
pub const SET_UP: [&str; 2] = [
    "DO $$ BEGIN CREATE ROLE app LOGIN PASSWORD 'bench'; \
     EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    "CREATE DATABASE app OWNER app",
];

/// The settings that Patroni keeps in etcd. The smallest times are the smallest that its documentation
/// permits (dynamic configuration: `ttl`, `loop_wait`, `retry_timeout`).
pub fn dynamic(variant: System) -> Value {
    let (ttl, loop_wait, retry_timeout) = match variant {
        System::Trilith | System::PatroniDefault => (30, 10, 10),
        System::PatroniTight | System::PatroniTightSync => (20, 1, 3),
    };
    json!({
        "ttl": ttl,
        "loop_wait": loop_wait,
        "retry_timeout": retry_timeout,
        "synchronous_mode": variant == System::PatroniTightSync,
    })
}

/// `patroni.yml` of a server; YAML takes JSON.
pub fn patroni(node: &Node, nodes: &[Node], dir: &Path, postgres: &Path) -> String {
    let address = node.address;
    let etcd: Vec<_> = nodes
        .iter()
        .map(|n| format!("{}:2379", n.address))
        .collect();
    let login = |user: &str| json!({ "username": user, "password": PASSWORD });
    let config = json!({
        "scope": "bench",
        "name": node.name,
        "restapi": {
            "listen": format!("{address}:{REST_PORT}"),
            "connect_address": format!("{address}:{REST_PORT}"),
        },
        "etcd3": { "hosts": etcd },
        "bootstrap": {
            "dcs": {
                "ttl": 30,
                "loop_wait": 10,
                "retry_timeout": 10,
                "maximum_lag_on_failover": 1_048_576,
                "postgresql": {
                    "use_pg_rewind": true,
                    "use_slots": true,
                    // As many as Trilith's demo has.
                    "parameters": { "max_connections": 200 },
                },
            },
            "initdb": [{ "encoding": "UTF8" }, "data-checksums"],
        },
        "postgresql": {
            "listen": format!("{address}:{POSTGRES_PORT}"),
            "connect_address": format!("{address}:{POSTGRES_PORT}"),
            "data_dir": dir.join("data"),
            "bin_dir": postgres,
            "pgpass": dir.join("pgpass"),
            "authentication": {
                "superuser": login("postgres"),
                "replication": login("replicator"),
                "rewind": login("rewinder"),
            },
            "parameters": { "unix_socket_directories": dir },
            "pg_hba": [
                "local all all scram-sha-256",
                format!("host replication replicator {address}/24 scram-sha-256"),
                format!("host all all {address}/24 scram-sha-256"),
            ],
        },
    });
    format!("{config:#}\n")
}

/// Arguments of etcd; its times are the defaults.
pub fn etcd(node: &Node, nodes: &[Node], dir: &Path) -> Vec<String> {
    let url = |node: &Node, port: u16| format!("http://{}:{port}", node.address);
    let cluster: Vec<_> = nodes
        .iter()
        .map(|n| format!("{}={}", n.name, url(n, 2380)))
        .collect();
    [
        ("--name", node.name.clone()),
        ("--data-dir", dir.join("etcd").display().to_string()),
        ("--listen-client-urls", url(node, 2379)),
        ("--advertise-client-urls", url(node, 2379)),
        ("--listen-peer-urls", url(node, 2380)),
        ("--initial-advertise-peer-urls", url(node, 2380)),
        ("--initial-cluster", cluster.join(",")),
        ("--initial-cluster-token", "bench".to_owned()),
        ("--logger", "zap".to_owned()),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value])
    .collect()
}

/// The times of HAProxy's checks: those of the template in Patroni's documentation, or in the tight
/// variants quicker ones, so that they are not what is measured.
pub fn checks(variant: System) -> &'static str {
    match variant {
        System::Trilith | System::PatroniDefault => "inter 3s fall 3 rise 2",
        System::PatroniTight | System::PatroniTightSync => "inter 1s fastinter 500ms fall 2 rise 1",
    }
}

/// As in Patroni's documentation: whoever answers 200 to `OPTIONS /primary` gets the connections, and
/// one that no longer does loses those it has.
pub fn haproxy(variant: System, nodes: &[Node]) -> String {
    let mut text = format!(
        "global\n    maxconn 1000\n\n\
         defaults\n    mode tcp\n    retries 2\n    timeout client 30m\n    timeout connect 4s\n    \
         timeout server 30m\n    timeout check 5s\n\n\
         listen primary\n    bind 127.0.0.1:{ENTRY_PORT}\n    option httpchk OPTIONS /primary\n    \
         http-check expect status 200\n    \
         default-server {} on-marked-down shutdown-sessions\n",
        checks(variant)
    );
    for node in nodes {
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "    server {} {}:{POSTGRES_PORT} maxconn 200 check port {REST_PORT}",
            node.name, node.address
        );
    }
    text
}

/// How an application gets to the primary from a server: by the HAProxy there.
pub fn entry(namespace: &str) -> String {
    application(namespace, "127.0.0.1", ENTRY_PORT)
}

/// A connection string of `trilith drill`.
pub fn application(namespace: &str, host: &str, port: u16) -> String {
    format!("netns={namespace} host={host} port={port} user=app password={PASSWORD} dbname=app")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        let node = |last: u8| Node {
            name: ["one", "two", "three"][usize::from(last) - 1].to_owned(),
            address: std::net::Ipv4Addr::new(10, 79, 0, last),
            namespace: format!("bench-{last}"),
        };
        (1..=3).map(node).collect()
    }

    #[test]
    fn the_rule_of_the_documentation_is_kept() {
        for variant in System::ALL {
            let settings = dynamic(variant);
            let number = |key: &str| settings[key].as_u64().unwrap();
            assert!(number("loop_wait") + 2 * number("retry_timeout") <= number("ttl"));
        }
        assert_eq!(dynamic(System::PatroniDefault)["ttl"], 30);
        assert_eq!(dynamic(System::PatroniTightSync)["synchronous_mode"], true);
    }

    #[test]
    fn haproxy_checks_the_role_and_cuts_sessions() {
        let text = haproxy(System::PatroniDefault, &nodes());
        assert!(text.contains("option httpchk OPTIONS /primary"));
        assert!(text.contains("inter 3s fall 3 rise 2 on-marked-down shutdown-sessions"));
        assert_eq!(text.matches("check port 8008").count(), 3);
    }

    #[test]
    fn every_server_knows_all_of_them() {
        let nodes = nodes();
        let arguments = etcd(&nodes[1], &nodes, Path::new("/d")).join(" ");
        assert!(arguments.contains("--name two"));
        assert!(arguments.contains(
            "one=http://10.79.0.1:2380,two=http://10.79.0.2:2380,three=http://10.79.0.3:2380"
        ));
        let config = patroni(&nodes[0], &nodes, Path::new("/d"), Path::new("/b"));
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["etcd3"]["hosts"].as_array().map(Vec::len), Some(3));
        assert_eq!(config["postgresql"]["data_dir"], "/d/data");
    }
}
