//! `[[upstream]]`.

use super::route::{BALANCE, MODE};
use super::{Key, Kind, Preset, Section, Shape};

pub(super) static UPSTREAM: Section = Section {
    path: "upstream",
    shape: Shape::List,
    also: &["upstreams", "backend", "backends", "pool", "service"],
    meaning: "Servers outside the cluster that a route can lead to: Trilith as a plain load balancer.",
    keys: &[
        Key::new(
            "name",
            Kind::Text("1 to 63 of A-Z, a-z, 0-9, _ and -"),
            Preset::Required,
            "What routes call it.",
        )
        .example(r#""legacy""#)
        .also(&["id"])
        .in_template(),
        Key::new(
            "servers",
            Kind::List("\"address:port\" or { address, weight, backup, max_connections }"),
            Preset::Required,
            "The servers, in order of preference. They are spoken to in plain HTTP/1.1.",
        )
        .example(r#"["10.0.1.5:8080", { address = "10.0.1.6:8080", weight = 2 }]"#)
        .also(&["server", "targets", "endpoints", "addresses", "upstreams", "hosts", "members"])
        .in_template(),
        Key::new(
            "balance",
            BALANCE,
            Preset::Value(r#""round-robin""#),
            "How one of the servers is picked.",
        )
        .example(r#""ip-hash""#)
        .also(&["algorithm", "lb", "load_balancing", "lb_policy", "policy", "method"])
        .in_template(),
        Key::new(
            "mode",
            MODE,
            Preset::Value(r#""active-active""#),
            "Whether all servers take requests or one at a time.",
        )
        .example(r#""active-passive""#)
        .in_template(),
        Key::new(
            "health",
            Kind::Mixed("{ path, interval, rise, fall, timeout }, or false"),
            Preset::Value("{}"),
            "How the servers are checked. `false` sends no checks: then only failed requests tell.",
        )
        .example(r#"{ path = "/healthz", interval = "5s" }"#)
        .also(&["check", "healthcheck", "health_check", "option"])
        .in_template(),
        Key::new(
            "connect_timeout",
            Kind::Duration {
                min: "10ms",
                max: "1m",
            },
            Preset::Value(r#""4s""#),
            "How long connecting to a server may take.",
        )
        .example(r#""1s""#)
        .also(&["proxy_connect_timeout", "timeout_connect", "timeout"]),
        Key::new(
            "response_timeout",
            Kind::Duration {
                min: "100ms",
                max: "1d",
            },
            Preset::Value(r#""60s""#),
            "How long a server may take from the end of a request to the beginning of its response.",
        )
        .example(r#""5m""#)
        .also(&["proxy_read_timeout", "timeout_server", "read_timeout", "server_timeout"]),
    ],
};

pub(super) static UPSTREAM_SERVER: Section = Section {
    path: "upstream.servers",
    shape: Shape::Inline,
    also: &["upstream.server"],
    meaning: "One server of an upstream. A string is its address alone.",
    keys: &[
        Key::new(
            "address",
            Kind::Text("IP address and port"),
            Preset::Required,
            "Where it listens.",
        )
        .example(r#""10.0.1.6:8080""#)
        .also(&["addr", "host", "url", "ip", "target", "server", "name"]),
        Key::new(
            "weight",
            Kind::Integer { min: 1, max: 1_000 },
            Preset::Value("1"),
            "Its share of the requests in relation to the others.",
        )
        .example("2"),
        Key::new(
            "backup",
            Kind::Bool,
            Preset::Value("false"),
            "Whether it is used only when no other server can be.",
        )
        .example("true")
        .also(&["standby", "passive", "fallback"]),
        Key::new(
            "max_connections",
            Kind::Integer {
                min: 1,
                max: 1_000_000,
            },
            Preset::Unset("no limit"),
            "Requests under way at a time, from each edge.",
        )
        .example("100")
        .also(&["maxconn", "max_conns", "connections_max"]),
    ],
};

pub(super) static HEALTH: Section = Section {
    path: "upstream.health",
    shape: Shape::Inline,
    also: &[],
    meaning: "The check of an upstream's servers: `GET path`, good when the answer is 2xx or 3xx.",
    keys: &[
        Key::new(
            "path",
            Kind::Text("path"),
            Preset::Value(r#""/""#),
            "What is requested.",
        )
        .example(r#""/healthz""#)
        .also(&["uri", "url", "endpoint"]),
        Key::new(
            "interval",
            Kind::Duration {
                min: "100ms",
                max: "1h",
            },
            Preset::Value(r#""2s""#),
            "Between two checks of a server.",
        )
        .example(r#""5s""#)
        .also(&["inter", "every", "period"]),
        Key::new(
            "rise",
            Kind::Integer { min: 1, max: 100 },
            Preset::Value("2"),
            "Good checks in a row until a server is used again.",
        )
        .example("1")
        .also(&["passes", "healthy_threshold", "up"]),
        Key::new(
            "fall",
            Kind::Integer { min: 1, max: 100 },
            Preset::Value("3"),
            "Bad checks in a row until a server is no longer used.",
        )
        .example("2")
        .also(&["fails", "max_fails", "unhealthy_threshold", "down"]),
        Key::new(
            "timeout",
            Kind::Duration {
                min: "10ms",
                max: "1h",
            },
            Preset::Value(r#""1s""#),
            "How long a check may take. Not longer than `interval`.",
        )
        .example(r#""500ms""#),
    ],
};
