use std::path::PathBuf;

use trilith_base::ServerName;

use super::*;
use crate::options::{Peer, Synchronous};
use crate::secrets::{Password, Secrets};

fn peer(name: &str, last: u8) -> Peer {
    Peer {
        name: ServerName::new(name).unwrap(),
        address: ([10, 0, 0, last], 5433).into(),
    }
}

fn options(role: Role) -> Options {
    let mut secrets = Secrets::generate().unwrap();
    secrets.replication = Password::new("replpw").unwrap();
    let one = ServerName::new("one").unwrap();
    let mut options = Options::new(one, Path::new("/srv/it's \\ here"), role, secrets);
    options.listen = vec![[10, 0, 0, 1].into(), [127, 0, 0, 1].into()];
    options.allowed_clients = vec![[10, 0, 0, 2].into(), "fd00::3".parse().unwrap()];
    options
}

fn primary() -> Options {
    options(Role::Primary {
        replicas: vec![peer("two", 2), peer("three-b", 3)],
    })
}

/// The last value of a setting wins.
fn setting<'a>(conf: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name} = ");
    let mut values = conf.lines().filter_map(|line| line.strip_prefix(&prefix));
    values.next_back().unwrap()
}

#[test]
fn the_primary() {
    let mut options = primary();
    options.parameters = [("work_mem".to_owned(), "8MB".to_owned())].into();
    let conf = trilith_conf(&options, Path::new("/run/a b"));
    assert_eq!(setting(&conf, "listen_addresses"), "'10.0.0.1,127.0.0.1'");
    assert_eq!(setting(&conf, "unix_socket_directories"), "'\"/run/a b\"'");
    assert_eq!(setting(&conf, "work_mem"), "'8MB'");
    assert_eq!(setting(&conf, "max_wal_senders"), "'10'");
    let any = "'ANY 1 (\"two\", \"three-b\")'";
    assert_eq!(setting(&conf, "synchronous_standby_names"), any);
    assert!(!conf.contains("primary_conninfo"));

    options.synchronous = Synchronous::Off;
    let conf = trilith_conf(&options, Path::new("/run/pg"));
    assert_eq!(setting(&conf, "synchronous_standby_names"), "''");
}

#[test]
fn a_replica() {
    let options = options(Role::Replica {
        primary: peer("two", 2),
    });
    let conf = trilith_conf(&options, Path::new("/run/pg"));
    assert_eq!(setting(&conf, "primary_slot_name"), "'trilith_one'");
    // One level of escapes for the connection string, one for the file.
    let expected = "'host=10.0.0.2 port=5433 user=trilith_replication \
         passfile=''/srv/it\\\\''s \\\\\\\\ here/postgres/trilith.pgpass'' application_name=one \
         sslmode=disable gssencmode=disable connect_timeout=5 keepalives_idle=5 \
         keepalives_interval=2 keepalives_count=3 tcp_user_timeout=10000'";
    assert_eq!(setting(&conf, "primary_conninfo"), expected);
    assert!(
        !conf.contains("replpw"),
        "the password is in a file of its own"
    );
    assert_eq!(pgpass(&options), "*:*:*:trilith_replication:replpw\n");
}

#[test]
fn nobody_else_gets_in() {
    let mut options = primary();
    options.listen = vec![[10, 0, 0, 1].into()];
    options.run_dir = PathBuf::from("/srv/one/run/pg");
    assert_eq!(
        pg_hba(&options),
        "# Written by Trilith at every start. Nobody but the cluster's servers gets in.\n\
         # TYPE DATABASE USER ADDRESS METHOD\n\
         local all \"trilith_admin\" scram-sha-256\n\
         host \"app\" \"app\" 10.0.0.1/32 scram-sha-256\n\
         host \"postgres\" \"trilith_monitor\" 10.0.0.1/32 scram-sha-256\n\
         host replication \"trilith_replication\" 10.0.0.1/32 scram-sha-256\n\
         host \"app\" \"app\" 10.0.0.2/32 scram-sha-256\n\
         host \"postgres\" \"trilith_monitor\" 10.0.0.2/32 scram-sha-256\n\
         host replication \"trilith_replication\" 10.0.0.2/32 scram-sha-256\n\
         host \"app\" \"app\" fd00::3/128 scram-sha-256\n\
         host \"postgres\" \"trilith_monitor\" fd00::3/128 scram-sha-256\n\
         host replication \"trilith_replication\" fd00::3/128 scram-sha-256\n"
    );
}
