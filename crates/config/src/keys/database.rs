//! `[database]`.

use super::{Choice, Key, Kind, Preset, Section, Shape};

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
        Key::new(
            "extensions",
            Kind::List("names, as in `create extension`"),
            Preset::Value("[]"),
            "Extensions of PostgreSQL that are created in the apps' database. Their files have to be \
             installed on every server with the role `db`.",
        )
        .example(r#"["pg_trgm", "uuid-ossp"]"#)
        .also(&["extension", "plugins", "modules"]),
        Key::new(
            "databases",
            Kind::List("names or { name, owner, extensions }"),
            Preset::Value("[]"),
            "Further databases that are created. None is ever dropped.",
        )
        .example(r#"["reports", { name = "shop", extensions = ["citext"] }]"#)
        .also(&["dbs", "further_databases"]),
        Key::new(
            "users",
            Kind::List("names or { name, databases, createdb }"),
            Preset::Value("[]"),
            "Further users that are created. None is ever dropped. Their passwords follow from the \
             cluster's secrets: `trilith db url --user NAME` shows one.",
        )
        .example(r#"["reports", { name = "reader", databases = ["app"] }]"#)
        .also(&["roles", "accounts", "logins"]),
    ],
};

const SQL_NAME: Kind = Kind::Text("1 to 63 of A-Z, a-z, 0-9, _ and -");

pub(super) static FURTHER: Section = Section {
    path: "database.databases",
    shape: Shape::Inline,
    also: &[],
    meaning: "A database besides the one of the apps. A string is its name alone.",
    keys: &[
        Key::new("name", SQL_NAME, Preset::Required, "What it is called.")
            .example(r#""shop""#)
            .also(&["database", "dbname", "db"]),
        Key::new(
            "owner",
            SQL_NAME,
            Preset::Unset("the apps' user"),
            "Who owns it: `database.user`, or one of `database.users`.",
        )
        .example(r#""app""#)
        .also(&["user", "role"]),
        Key::new(
            "extensions",
            Kind::List("names, as in `create extension`"),
            Preset::Value("[]"),
            "Extensions of PostgreSQL that are created in it.",
        )
        .example(r#"["citext"]"#)
        .also(&["extension"]),
    ],
};

pub(super) static USER: Section = Section {
    path: "database.users",
    shape: Shape::Inline,
    also: &[],
    meaning: "A user of the database besides the one of the apps. A string is its name alone.",
    keys: &[
        Key::new("name", SQL_NAME, Preset::Required, "What it is called.")
            .example(r#""reader""#)
            .also(&["user", "role", "login"]),
        Key::new(
            "databases",
            Kind::List("names of databases"),
            Preset::Value("[]"),
            "Where it may connect, besides the databases that it owns. What it may do there, their \
             owners grant it.",
        )
        .example(r#"["app"]"#)
        .also(&["database", "dbs"]),
        Key::new(
            "createdb",
            Kind::Bool,
            Preset::Value("false"),
            "Whether it may create databases. It may connect to all of them then.",
        )
        .example("true")
        .also(&["create_db", "can_create_databases"]),
    ],
};
