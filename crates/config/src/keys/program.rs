//! `[app.NAME]` and `[database]`.

use super::{Choice, Key, Kind, Preset, Section, Shape};

pub(super) static APP: Section = Section {
    path: "app.NAME",
    shape: Shape::Named,
    also: &["apps", "application", "process", "processes", "program", "service"],
    meaning: "A process type of the code base, such as `[app.web]`. What is not said here comes from \
              the line of the same name in the code base's `Procfile`.",
    keys: &[
        Key::new(
            "run",
            Kind::Text("command line"),
            Preset::Unset("the line of the code base's `Procfile`"),
            "The command that starts an instance, in the folder of the code base. An instance that \
             routes lead to listens on `$PORT`.",
        )
        .example(r#""./bin/server""#)
        .also(&["command", "cmd", "exec", "start", "entrypoint"])
        .in_template(),
        Key::new(
            "instances",
            Kind::Integer { min: 0, max: 256 },
            Preset::Value("2"),
            "How many of them each web server runs. 0 runs none.",
        )
        .example("4")
        .also(&["count", "replicas", "workers", "scale", "processes", "numprocs", "concurrency"])
        .in_template(),
        Key::new(
            "env",
            Kind::Map("NAME = \"value\""),
            Preset::Value("{}"),
            "Environment variables, added to those that every instance gets. `PORT`, `HOST`, `SERVER`, \
             `INSTANCE`, `RELEASE` and `TMPDIR` are Trilith's to set.",
        )
        .example(r#"{ RUST_LOG = "info" }"#)
        .also(&["environment", "vars", "variables"])
        .in_template(),
        Key::new(
            "health",
            Kind::Mixed("string: path, or false"),
            Preset::Value(r#""/""#),
            "An instance takes requests when this path answers with a status below 500. `false`: it \
             does not speak HTTP, and is ready when it runs.",
        )
        .example(r#""/healthz""#)
        .also(&["health_path", "healthcheck", "health_check", "check", "ready"])
        .in_template(),
        Key::new(
            "start_timeout",
            Kind::Duration {
                min: "1s",
                max: "1h",
            },
            Preset::Value(r#""60s""#),
            "An instance that is not ready after this time is stopped and started anew.",
        )
        .example(r#""2m""#)
        .also(&["startup_timeout", "boot_timeout", "startsecs"]),
        Key::new(
            "stop_grace",
            Kind::Duration {
                min: "0s",
                max: "1h",
            },
            Preset::Value(r#""15s""#),
            "How long an instance may take to end after SIGTERM. Then comes SIGKILL.",
        )
        .example(r#""30s""#)
        .also(&["stop_timeout", "kill_timeout", "stopwaitsecs", "grace", "shutdown_timeout"]),
        Key::new(
            "user",
            Kind::Text("user of the operating system"),
            Preset::Value(r#""nobody""#),
            "Who runs the instances when Trilith was started as root. Otherwise they run as Trilith \
             does.",
        )
        .example(r#""www-data""#)
        .also(&["uid", "run_as", "os_user"]),
    ],
};

pub(crate) static SYNCHRONOUS: [Choice; 2] = [
    Choice::new(
        "quorum",
        "a commit waits for a replica, where there are at least two",
    )
    .also(&["on", "true", "yes", "any", "remote_write"]),
    Choice::new(
        "off",
        "a commit waits for the primary alone; if that is lost, so are its last commits",
    )
    .also(&["none", "false", "no", "async", "local"]),
];

pub(super) static DATABASE: Section = Section {
    path: "database",
    shape: Shape::Table,
    also: &["db", "postgres", "postgresql", "databases"],
    meaning: "PostgreSQL, on the servers with the role `db`. Without this table nothing of PostgreSQL \
              runs.",
    keys: &[
        Key::new(
            "name",
            Kind::Text("1 to 63 of A-Z, a-z, 0-9, _ and -"),
            Preset::Value(r#""app""#),
            "The database that is created for the apps.",
        )
        .example(r#""foobar""#)
        .also(&["database", "dbname", "db"])
        .in_template(),
        Key::new(
            "user",
            Kind::Text("1 to 63 of A-Z, a-z, 0-9, _ and -"),
            Preset::Value(r#""app""#),
            "The PostgreSQL user that is created for the apps and owns the database.",
        )
        .example(r#""foobar""#)
        .also(&["role", "username", "owner"])
        .in_template(),
        Key::new(
            "synchronous",
            Kind::OneOf {
                choices: &SYNCHRONOUS,
                or: None,
            },
            Preset::Value(r#""quorum""#),
            "What a commit waits for.",
        )
        .example(r#""off""#)
        .also(&["sync", "synchronous_commit", "synchronous_mode"])
        .in_template(),
        Key::new(
            "parameters",
            Kind::Map("setting = value"),
            Preset::Value("{}"),
            "Further settings of PostgreSQL, as in postgresql.conf. Those that Trilith sets itself are \
             refused.",
        )
        .example(r#"{ shared_buffers = "1GB", work_mem = "16MB" }"#)
        .also(&["settings", "options", "config", "conf", "params"])
        .in_template(),
        Key::new(
            "bin_dir",
            Kind::Text("folder"),
            Preset::Unset("the newest PostgreSQL that is found"),
            "Where `initdb` and `postgres` are. A relative path counts from the folder of this file.",
        )
        .example(r#""/usr/lib/postgresql/15/bin""#)
        .also(&["bin", "bindir", "path"]),
        Key::new(
            "os_user",
            Kind::Text("user of the operating system"),
            Preset::Value(r#""postgres""#),
            "Who runs PostgreSQL when Trilith was started as root. Otherwise it runs as Trilith does.",
        )
        .example(r#""postgres""#)
        .also(&["run_as", "system_user"]),
    ],
};
