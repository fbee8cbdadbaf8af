//! `[[site.route]]`.

use super::{Choice, Key, Kind, Preset, Section, Shape};

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

pub(super) const BALANCE: Kind = Kind::OneOf {
    choices: &BALANCES,
    or: None,
};

pub(super) const MODE: Kind = Kind::OneOf {
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
