//! `[app.NAME]`.

use super::{Key, Kind, Preset, Section, Shape};

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
