//! `[cluster]`, `[ports]`, `[code]`, `[[server]]`, `[edge]`.

use super::{Choice, Key, Kind, Preset, Section, Shape};

pub(super) static CLUSTER: Section = Section {
    path: "cluster",
    shape: Shape::Table,
    also: &["global", "general", "settings", "main"],
    meaning: "What all servers have in common.",
    keys: &[
        Key::new(
            "name",
            Kind::Text("1 to 63 of a-z, 0-9 and -"),
            Preset::Value(r#""trilith""#),
            "The cluster's name. It stands in the cluster's certificates, in logs and in `trilith status`.",
        )
        .example(r#""foobar""#)
        .in_template(),
        Key::new(
            "vip",
            Kind::Mixed(
                "IP address, with or without the length of its network's prefix, or a list of them",
            ),
            Preset::Unset("no floating address"),
            "The floating address: what the host names of the sites lead to. One healthy server with \
             the role `edge` holds it, and another one takes it when that fails. Of several addresses \
             each edge holds one, while it is well. `[vip]` says how it is held. Leave it out behind a \
             cloud provider's load balancer, or with one server.",
        )
        .example(r#""10.0.0.100/24""#)
        .also(&["virtual_ip", "floating_ip", "floating_address", "virtual_address"])
        .in_template(),
        Key::new(
            "store",
            Kind::Mixed("\"embedded\", or a table"),
            Preset::Value(r#""embedded""#),
            "Where the servers keep what they agree on: who holds what, and the config. `\"embedded\"` \
             is Trilith itself; a table names an etcd that runs already.",
        )
        .example(r#"{ etcd = ["http://10.0.0.5:2379"] }"#)
        .also(&["dcs", "etcd", "consensus", "raft", "backend"]),
        Key::new(
            "data",
            Kind::Text("folder"),
            Preset::Value(r#""/var/lib/trilith""#),
            "Where a server keeps its state: databases, releases, logs. Each server uses a folder of \
             its own name in it. A relative path counts from the folder of this file.",
        )
        .example(r#""/srv/trilith""#)
        .also(&["data_dir", "data_path", "state", "state_dir", "dir"]),
        Key::new(
            "secrets",
            Kind::Text("folder"),
            Preset::Value(r#""/etc/trilith/secrets""#),
            "Where the cluster's certificate authority and the database passwords are, the same on \
             every server. A relative path counts from the folder of this file.",
        )
        .example(r#""secrets""#)
        .also(&["secret", "secrets_dir"]),
        Key::new(
            "workers",
            Kind::Mixed("integer, 1 to 256, or \"auto\""),
            Preset::Value(r#""auto""#),
            "Threads that serve connections, on each server. `\"auto\"` is one per core.",
        )
        .example("4")
        .also(&["threads", "worker_processes", "nbthread", "cores"]),
    ],
};

const PORT: Kind = Kind::Integer {
    min: 1,
    max: 65_535,
};

pub(super) static PORTS: Section = Section {
    path: "ports",
    shape: Shape::Table,
    also: &["port", "listen"],
    meaning: "The TCP ports, the same on every server. No two may be equal.",
    keys: &[
        Key::new("http", PORT, Preset::Value("80"), "HTTP for everybody.").example("8080"),
        Key::new("https", PORT, Preset::Value("443"), "HTTPS for everybody.")
            .example("8443")
            .also(&["tls", "ssl"]),
        Key::new(
            "cluster",
            PORT,
            Preset::Value("7400"),
            "Traffic between the servers, under mutual TLS.",
        )
        .example("7400")
        .also(&["peer", "internal"]),
        Key::new(
            "postgres",
            PORT,
            Preset::Value("5433"),
            "PostgreSQL itself, for the other servers. Apps use `sql`.",
        )
        .example("5433")
        .also(&["postgresql", "database", "db", "pg"]),
        Key::new(
            "sql",
            PORT,
            Preset::Value("5432"),
            "The sql entry that leads to the primary. On the loopback address only.",
        )
        .example("5432")
        .also(&["sql_primary", "sql_write"]),
        Key::new(
            "sql_replica",
            PORT,
            Preset::Value("5434"),
            "The sql entry that leads to a replica, for reading. On the loopback address only.",
        )
        .example("5434")
        .also(&["sql_read", "sql_replicas"]),
        Key::new(
            "admin",
            PORT,
            Preset::Value("7480"),
            "Metrics and the admin API. On the loopback address only.",
        )
        .example("7480")
        .also(&["metrics", "monitor", "dashboard", "api"]),
    ],
};

pub(super) static CODE: Section = Section {
    path: "code",
    shape: Shape::Table,
    also: &["code_base", "source"],
    meaning: "The code base: the files of the sites and apps.",
    keys: &[Key::new(
        "path",
        Kind::Text("folder"),
        Preset::Value(r#""/srv/site""#),
        "The folder of the code base. A `Procfile` in it is read. A relative path counts from the \
         folder of this file.",
    )
    .example(r#""site""#)
    .also(&["dir", "folder", "root"])
    .in_template()],
};

pub(crate) static ROLES: [Choice; 3] = [
    Choice::new("edge", "load balancer: takes the clients' connections").also(&[
        "lb",
        "load-balancer",
        "loadbalancer",
        "balancer",
        "proxy",
        "frontend",
    ]),
    Choice::new("web", "web server: files, and the instances of the apps").also(&[
        "app",
        "application",
        "webserver",
        "web-server",
        "backend",
        "www",
    ]),
    Choice::new(
        "db",
        "database server: PostgreSQL, if there is a [database]",
    )
    .also(&[
        "database",
        "postgres",
        "postgresql",
        "sql",
        "primary",
        "replica",
    ]),
];

pub(super) static SERVER: Section = Section {
    path: "server",
    shape: Shape::List,
    also: &["servers", "node", "nodes", "host", "hosts", "machine"],
    meaning: "One machine that runs `trilith run`. With two of \
              them neither could go on without the other, so there is one, or there are three or more. \
              The order of the servers counts: the floating addresses start on the servers with the \
              role `edge` in this order, a new database is made on the first one with the role `db`.",
    keys: &[
        Key::new(
            "name",
            Kind::Text("1 to 63 of a-z, 0-9 and -"),
            Preset::Required,
            "The server's name, as in `trilith run --server NAME`.",
        )
        .example(r#""one""#)
        .also(&["hostname", "host", "id"])
        .in_template(),
        Key::new(
            "address",
            Kind::Text("IP address"),
            Preset::Required,
            "The address under which the other servers reach it. Either all servers have loopback \
             addresses (a trial on one machine) or none has.",
        )
        .example(r#""10.0.0.1""#)
        .also(&["ip", "addr", "ip_address", "bind", "listen"])
        .in_template(),
        Key::new(
            "roles",
            Kind::ListOf(&ROLES),
            Preset::Value(r#"["edge", "web", "db"]"#),
            "What the server does. `[]` makes it a witness, which only votes.",
        )
        .example(r#"["web", "db"]"#)
        .also(&["role", "type", "types"])
        .in_template(),
    ],
};

pub(super) static EDGE: Section = Section {
    path: "edge",
    shape: Shape::Table,
    also: &["lb", "balancer", "limits", "frontend", "proxy", "timeouts"],
    meaning: "Limits and timeouts towards clients, of every site.",
    keys: &[
        Key::new(
            "trusted_proxies",
            Kind::List("IP addresses and networks"),
            Preset::Value("[]"),
            "Whose `X-Forwarded-For`, `-Proto` and `-Host` headers are believed. For anybody else \
             they are replaced.",
        )
        .example(r#"["10.0.0.0/8", "192.0.2.7"]"#)
        .also(&["trusted", "trust", "real_ip_from", "set_real_ip_from"])
        .in_template(),
        Key::new(
            "header_timeout",
            Kind::Duration {
                min: "100ms",
                max: "1h",
            },
            Preset::Value(r#""10s""#),
            "How long a client may take to send a whole request head.",
        )
        .example(r#""5s""#)
        .also(&["client_header_timeout", "request_timeout", "http_request_timeout"]),
        Key::new(
            "body_idle_timeout",
            Kind::Duration {
                min: "100ms",
                max: "1d",
            },
            Preset::Value(r#""30s""#),
            "The longest silence within a body, either way.",
        )
        .example(r#""1m""#)
        .also(&["client_body_timeout", "body_timeout", "client_timeout", "timeout"]),
        Key::new(
            "keep_alive_timeout",
            Kind::Duration {
                min: "100ms",
                max: "1d",
            },
            Preset::Value(r#""60s""#),
            "How long a connection stays open without a request.",
        )
        .example(r#""15s""#)
        .also(&["keepalive_timeout", "idle_timeout"]),
        Key::new(
            "body_rate_min",
            Kind::Size {
                min: "0B",
                max: "1GB",
            },
            Preset::Value(r#""1kB""#),
            "Bytes per second that a request body must reach on average. `\"0B\"` is no limit.",
        )
        .example(r#""10kB""#)
        .also(&["min_rate", "body_rate"]),
        Key::new(
            "header_bytes_max",
            Kind::Size {
                min: "1KiB",
                max: "1MiB",
            },
            Preset::Value(r#""32KiB""#),
            "The longest request head. A longer one is answered with 431.",
        )
        .example(r#""64KiB""#)
        .also(&["max_header_size", "large_client_header_buffers", "header_max"]),
        Key::new(
            "headers_max",
            Kind::Integer { min: 10, max: 256 },
            Preset::Value("100"),
            "The most header fields of a request. More are answered with 431.",
        )
        .example("200")
        .also(&["max_headers"]),
        Key::new(
            "target_bytes_max",
            Kind::Size {
                min: "256B",
                max: "1MiB",
            },
            Preset::Value(r#""8KiB""#),
            "The longest path and query together. A longer one is answered with 414.",
        )
        .example(r#""16KiB""#)
        .also(&["max_uri_length", "url_bytes_max", "uri_max"]),
        Key::new(
            "connections_max",
            Kind::Integer {
                min: 1,
                max: 10_000_000,
            },
            Preset::Value("100000"),
            "Client connections at a time, on each server.",
        )
        .example("20000")
        .also(&["maxconn", "worker_connections", "max_connections"]),
        Key::new(
            "connections_per_ip_max",
            Kind::Integer {
                min: 0,
                max: 10_000_000,
            },
            Preset::Value("256"),
            "Client connections at a time from one address, on each server. 0 is no limit. Trusted \
             proxies have none.",
        )
        .example("100")
        .also(&["limit_conn", "max_connections_per_ip"]),
        Key::new(
            "drain_timeout",
            Kind::Duration {
                min: "0s",
                max: "1h",
            },
            Preset::Value(r#""30s""#),
            "How long open requests may take to finish when a server stops.",
        )
        .example(r#""2m""#)
        .also(&["hard_stop_after", "shutdown_timeout", "grace", "worker_shutdown_timeout"]),
        Key::new(
            "access_log",
            Kind::Bool,
            Preset::Value("true"),
            "Whether each request is written to the access log.",
        )
        .example("false")
        .also(&["log", "logging"]),
        Key::new(
            "retries",
            Kind::Integer { min: 0, max: 7 },
            Preset::Value("2"),
            "Further tries after a failed one, each on another server. Only requests that are safe to \
             repeat, or of which nothing was sent, are tried again.",
        )
        .example("1")
        .also(&["max_retries", "proxy_next_upstream_tries"]),
        Key::new(
            "retry_budget_percent",
            Kind::Integer { min: 0, max: 100 },
            Preset::Value("20"),
            "How much retries may add to the load, in percent of the requests under way. It keeps an \
             outage from being made worse.",
        )
        .example("10")
        .also(&["retry_budget"]),
    ],
};
