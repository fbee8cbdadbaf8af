use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use trilith_base::ServerName;
use trilith_cluster::join::Welcome;
use trilith_tls::Ca;

use super::*;

const CONFIG: &str = r#"
[cluster]
name = "foobar"
secrets = "keys"

[[server]]
name = "one"
address = "127.0.0.1"

[[site]]
host = "www.foobar.com"
tls = "off"

[[site.route]]
path = "/*"
redirect = "https://example.org/"
"#;

fn joined() -> Joined {
    let dir = tempfile::tempdir().unwrap();
    Ca::create(dir.path(), "foobar", SystemTime::now()).unwrap();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    Joined {
        server: ServerName::new("one").unwrap(),
        welcome: Welcome {
            cluster: "foobar".to_owned(),
            config: CONFIG.to_owned(),
            ca_certificate: read("ca.crt"),
            ca_key: read("ca.key"),
            database_passwords: None,
        },
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everything below a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(names(&path));
        }
        found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    found.sort();
    found
}

#[test]
fn everything_is_written_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("etc/trilith.toml");
    fs::create_dir(dir.path().join("etc")).unwrap();
    let joined = joined();
    let here = settle(joined.clone(), &config).unwrap();
    let keys = dir.path().join("etc/keys");
    assert_eq!(here.written.len(), 3);
    assert_eq!(here.server, "one");
    assert_eq!(mode(&keys), 0o700);
    assert_eq!(mode(&keys.join("ca.key")), 0o600);
    assert_eq!(fs::read_to_string(&config).unwrap(), CONFIG);
    Ca::load(&keys).unwrap();
    let all = ["ca.crt", "ca.key", "etc", "keys", "trilith.toml"];
    assert_eq!(names(dir.path()), all);
    // The same again is no work and no error.
    assert!(settle(joined, &config).unwrap().written.is_empty());
}

#[test]
fn what_is_there_is_never_changed() {
    for (file, text) in [("trilith.toml", "# mine\n"), ("keys/ca.key", "my key")] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("keys")).unwrap();
        let path = dir.path().join(file);
        fs::write(&path, text).unwrap();
        let before = names(dir.path());
        let failed = settle(joined(), &dir.path().join("trilith.toml"));
        assert!(
            matches!(&failed, Err(Afterwards::Differs { path: p }) if *p == path),
            "{failed:?}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(names(dir.path()), before);
    }
}

#[test]
fn what_cannot_be_used_is_not_written() {
    let good = joined();
    let with = |change: fn(&mut Welcome)| {
        let mut joined = good.clone();
        change(&mut joined.welcome);
        joined
    };
    let stranger = Joined {
        server: ServerName::new("nine").unwrap(),
        ..good.clone()
    };
    let bad = [
        with(|welcome| welcome.config = "[cluster".to_owned()),
        stranger,
        with(|welcome| welcome.ca_key = "no key".to_owned()),
        with(|welcome| welcome.database_passwords = Some("no passwords".to_owned())),
        Joined {
            welcome: Welcome {
                ca_key: joined().welcome.ca_key,
                ..good.welcome.clone()
            },
            ..good.clone()
        },
    ];
    for joined in bad {
        let dir = tempfile::tempdir().unwrap();
        let failed = settle(joined, &dir.path().join("trilith.toml")).unwrap_err();
        assert!(
            matches!(
                failed,
                Afterwards::Config { .. } | Afterwards::Secrets { .. }
            ),
            "{failed}"
        );
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn a_token_is_not_spent_where_nothing_can_be_written() {
    let failed = join_blocking("one", Path::new("/nowhere/trilith.toml")).unwrap_err();
    assert!(failed.is_usage() && !failed.token_is_spent());
}
