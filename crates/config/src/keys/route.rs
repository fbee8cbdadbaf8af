//! `[[site]]`, `[[site.route]]`, `[[upstream]]`.

use super::{Choice, Key, Kind, Preset, Section, Shape};

static TLS: [Choice; 3] = [
    Choice::new("internal", "a certificate of the cluster's own authority").also(&[
        "self-signed",
        "selfsigned",
        "self",
        "local",
        "on",
        "true",
        "yes",
    ]),
    Choice::new("off", "HTTP only").also(&["none", "false", "no", "disabled", "http"]),
    Choice::new(
        "acme",
        "a certificate of a public authority, such as Let's Encrypt",
    )
    .also(&["letsencrypt", "lets-encrypt", "auto", "automatic"])
    .not_yet("use \"internal\", which browsers do not know, or { certificate, key } with your own"),
];

pub(super) static SITE: Section = Section {
    path: "site",
    shape: Shape::List,
    also: &["sites", "vhost", "virtualhost", "virtual_host", "domain"],
    meaning: "A host name and what answers under it.",
    keys: &[
        Key::new(
            "host",
            Kind::Text("host name"),
            Preset::Required,
            "The site's host name. Requests are matched by it; case and port do not matter.",
        )
        .example(r#""www.example.com""#)
        .also(&["domain", "name", "server_name", "hostname"])
        .in_template(),
        Key::new(
            "aliases",
            Kind::List("host names"),
            Preset::Value("[]"),
            "Further host names. They are redirected to `host`.",
        )
        .example(r#"["example.com"]"#)
        .also(&["alias", "server_alias", "hosts", "domains", "names"])
        .in_template(),
        Key::new(
            "tls",
            Kind::OneOf {
                choices: &TLS,
                or: Some("{ certificate, key }"),
            },
            Preset::Value(r#""internal""#),
            "Where the certificate for HTTPS comes from.",
        )
        .example(r#"{ certificate = "tls/example.pem", key = "tls/example.key" }"#)
        .also(&["ssl", "https", "certificate", "cert"])
        .in_template(),
        Key::new(
            "https_redirect",
            Kind::Bool,
            Preset::Value("true"),
            "Whether plain HTTP is redirected to HTTPS. Always off with `tls = \"off\"`.",
        )
        .example("false")
        .also(&["redirect_https", "force_https", "force_ssl", "redirect_to_https"])
        .in_template(),
        Key::new(
            "error_pages",
            Kind::Map("status = file of the code base"),
            Preset::Value("{}"),
            "Pages for errors that Trilith itself answers with, by status (400 to 599). Answers of apps \
             and upstreams are passed on as they are.",
        )
        .example(r#"{ "404" = "errors/404.html", "503" = "errors/503.html" }"#)
        .also(&["errors", "error_page", "errorfile"]),
        Key::new(
            "route",
            Kind::Tables,
            Preset::Required,
            "The paths of the site and what answers them; at least one.",
        )
        .also(&["routes", "location", "locations", "path", "paths"])
        .in_template(),
    ],
};

pub(super) static SITE_TLS: Section = Section {
    path: "site.tls",
    shape: Shape::Inline,
    also: &[],
    meaning: "A certificate of your own.",
    keys: &[
        Key::new(
            "certificate",
            Kind::Text("file"),
            Preset::Required,
            "PEM file with the certificate first and then its chain. A relative path counts from the \
             folder of this file.",
        )
        .example(r#""tls/example.pem""#)
        .also(&["cert", "crt", "ssl_certificate", "fullchain", "chain", "pem"]),
        Key::new(
            "key",
            Kind::Text("file"),
            Preset::Required,
            "PEM file with the certificate's private key. A relative path counts from the folder of \
             this file.",
        )
        .example(r#""tls/example.key""#)
        .also(&["private_key", "ssl_certificate_key", "privkey"]),
    ],
};

pub(crate) static BALANCES: [Choice; 6] = [
    Choice::new(
        "round-robin",
        "one after the other, in proportion to their weights",
    )
    .also(&["roundrobin", "round_robin", "rr", "wrr", "weighted"]),
    Choice::new(
        "least-connections",
        "the one with the fewest requests under way",
    )
    .also(&[
        "leastconn",
        "least_conn",
        "least_connections",
        "least-conn",
        "leastconnections",
    ]),
    Choice::new(
        "ip-hash",
        "always the same one for a client's address, while it is healthy",
    )
    .also(&["ip_hash", "iphash", "source", "sticky", "hash"]),
    Choice::new("random-two", "the less busy one of two drawn at random")
        .also(&["random", "power-of-two", "p2c"])
        .not_yet("use \"least-connections\" or \"round-robin\""),
    Choice::new("uri-hash", "always the same one for a path")
        .also(&["uri", "url-hash", "consistent"])
        .not_yet("use \"ip-hash\" or \"round-robin\""),
    Choice::new("least-time", "the one that answers fastest")
        .also(&["least_time", "ewma", "peak-ewma", "fastest"])
        .not_yet("use \"least-connections\""),
];

pub(crate) static MODES: [Choice; 2] = [
    Choice::new("active-active", "all healthy ones take requests").also(&["active", "all"]),
    Choice::new(
        "active-passive",
        "the first healthy one, in the order of the file, takes them all",
    )
    .also(&[
        "active-backup",
        "active-standby",
        "passive",
        "failover",
        "backup",
        "standby",
    ]),
];

const BALANCE: Kind = Kind::OneOf {
    choices: &BALANCES,
    or: None,
};

const MODE: Kind = Kind::OneOf {
    choices: &MODES,
    or: None,
};

pub(super) static ROUTE: Section = Section {
    path: "site.route",
    shape: Shape::List,
    also: &["route", "routes", "site.routes", "location"],
    meaning: "Paths of the site above it, and what answers them: exactly one of `files`, `app`, \
              `upstream`, `redirect` and `respond`. The most specific path wins, whatever the order.",
    keys: &[
        Key::new(
            "path",
            Kind::Text("\"/exact\", \"/prefix/*\", or \"/*\""),
            Preset::Required,
            "Which paths. `/a` is that path only; `/a/*` is `/a` and all below it; `/*` is everything \
             that no other route takes.",
        )
        .example(r#""/*""#)
        .also(&["prefix", "location", "match", "url", "pattern"])
        .in_template(),
        Key::new(
            "files",
            Kind::Text("folder of the code base, or file for an exact path"),
            Preset::Unset("no files"),
            "Answer with files of the code base. With the path `/assets/*` and the files \
             `public/assets`, `/assets/a.css` is `public/assets/a.css`.",
        )
        .example(r#""public""#)
        .also(&["root", "static", "dir", "folder", "file", "file_server"])
        .in_template(),
        Key::new(
            "app",
            Kind::Text("name of an app"),
            Preset::Unset("no app"),
            "Answer with instances of an app: `[app.NAME]` of this file, or a line of the code base's \
             `Procfile`.",
        )
        .example(r#""web""#)
        .also(&["process", "service", "application"])
        .in_template(),
        Key::new(
            "upstream",
            Kind::Text("name of an upstream"),
            Preset::Unset("no upstream"),
            "Answer with an `[[upstream]]` of this file.",
        )
        .example(r#""legacy""#)
        .also(&["proxy_pass", "reverse_proxy", "backend", "proxy", "pool"])
        .in_template(),
        Key::new(
            "redirect",
            Kind::Text("URL, or path of the same site"),
            Preset::Unset("no redirect"),
            "Answer with a redirect to this. `{path}` in it stands for the request's path, and then \
             its query goes along.",
        )
        .example(r#""https://example.org{path}""#)
        .also(&["return", "rewrite", "to"])
        .in_template(),
        Key::new(
            "respond",
            Kind::Mixed("{ status, body, content_type }"),
            Preset::Unset("no fixed response"),
            "Answer with this response.",
        )
        .example(r#"{ status = 200, body = "ok" }"#)
        .also(&["response", "body"])
        .in_template(),
        Key::new(
            "status",
            Kind::Integer { min: 301, max: 308 },
            Preset::Value("308"),
            "Status of a `redirect`: 301, 302, 303, 307 or 308.",
        )
        .example("302")
        .also(&["code", "status_code"]),
        Key::new(
            "balance",
            BALANCE,
            Preset::Value(r#""round-robin""#),
            "How a web server is picked, for `files` and `app`. (An upstream has its own.)",
        )
        .example(r#""least-connections""#)
        .also(&["algorithm", "lb", "load_balancing", "lb_policy", "policy", "method"])
        .in_template(),
        Key::new(
            "mode",
            MODE,
            Preset::Value(r#""active-active""#),
            "Whether all web servers take requests or one at a time, for `files` and `app`. (An \
             upstream has its own.)",
        )
        .example(r#""active-passive""#)
        .in_template(),
        Key::new(
            "strip_prefix",
            Kind::Text("beginning of the route's path"),
            Preset::Unset("the route's path up to `/*` for `files`, nothing otherwise"),
            "What is taken off the front of the path before it becomes a file name, goes to an app or an \
             upstream, or into a redirect. `\"/\"` keeps the path whole.",
        )
        .example(r#""/api""#)
        .also(&["strip", "stripprefix", "handle_path", "strip_path"]),
        Key::new(
            "index",
            Kind::List("file names"),
            Preset::Value(r#"["index.html"]"#),
            "For `files`: what to look for in a folder, in this order.",
        )
        .example(r#"["index.html", "index.htm"]"#)
        .also(&["index_files", "directory_index", "default"]),
        Key::new(
            "cache_control",
            Kind::Text("value of a `Cache-Control` header"),
            Preset::Unset("no such header"),
            "For `files` and `respond`: how long clients may keep the answer.",
        )
        .example(r#""public, max-age=3600""#)
        .also(&["cache", "expires", "max_age", "cache_header"]),
        Key::new(
            "body_max",
            Kind::Size {
                min: "0B",
                max: "1000GiB",
            },
            Preset::Value(r#""16MiB""#),
            "For `app` and `upstream`: the longest request body. A longer one is answered with 413.",
        )
        .example(r#""1GiB""#)
        .also(&["client_max_body_size", "max_body_size", "body_limit", "max_size", "max_body"]),
    ],
};

pub(super) static RESPOND: Section = Section {
    path: "site.route.respond",
    shape: Shape::Inline,
    also: &[],
    meaning: "A fixed response.",
    keys: &[
        Key::new(
            "status",
            Kind::Integer { min: 200, max: 599 },
            Preset::Value("200"),
            "Its status.",
        )
        .example("404")
        .also(&["code", "status_code"]),
        Key::new(
            "body",
            Kind::Text("any"),
            Preset::Value(r#""""#),
            "Its body.",
        )
        .example(r#""ok""#)
        .also(&["text", "content"]),
        Key::new(
            "content_type",
            Kind::Text("media type"),
            Preset::Value(r#""text/plain; charset=utf-8""#),
            "The type of its body.",
        )
        .example(r#""application/json""#)
        .also(&["type", "mime", "mime_type"]),
    ],
};

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
