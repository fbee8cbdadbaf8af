use trilith_base::ServerName;

use super::*;
use crate::options::Peer;
use crate::secrets::{Password, Secrets};
use crate::tls::tests::tls;

fn peer(name: &str, last: u8) -> Peer {
    Peer {
        name: ServerName::new(name).unwrap(),
        address: ([10, 0, 0, last], 5433).into(),
    }
}

fn options(others: Vec<Peer>) -> Options {
    let mut secrets = Secrets::generate().unwrap();
    secrets.replication = Password::new("replpw").unwrap();
    let one = ServerName::new("one").unwrap();
    let mut options = Options::new(one, Path::new("/srv/it's \\ here"), secrets);
    options.servers = vec![peer("one", 1)];
    options.servers.extend(others);
    options.listen = vec![[10, 0, 0, 1].into(), [127, 0, 0, 1].into()];
    options.allowed_clients = vec![[10, 0, 0, 2].into(), "fd00::3".parse().unwrap()];
    options
}

fn primary() -> Options {
    options(vec![peer("two", 2), peer("three-b", 3)])
}

fn conf_of(options: &Options, folder: &str, part: &Part<'_>) -> String {
    trilith_conf_as(options, Path::new(folder), part)
}

fn confirmed_by(names: &str) -> Part<'static> {
    Part::Primary {
        synchronous_standby_names: names.to_owned(),
    }
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
    let conf = conf_of(
        &options,
        "/run/a b",
        &confirmed_by("ANY 1 (\"two\", \"three-b\")"),
    );
    assert_eq!(setting(&conf, "listen_addresses"), "'10.0.0.1,127.0.0.1'");
    assert_eq!(setting(&conf, "unix_socket_directories"), "'\"/run/a b\"'");
    assert_eq!(setting(&conf, "work_mem"), "'8MB'");
    assert_eq!(setting(&conf, "max_wal_senders"), "'10'");
    let any = "'ANY 1 (\"two\", \"three-b\")'";
    assert_eq!(setting(&conf, "synchronous_standby_names"), any);
    assert!(!conf.contains("primary_conninfo"));

    let conf = conf_of(&options, "/run/pg", &confirmed_by(""));
    assert_eq!(setting(&conf, "synchronous_standby_names"), "''");
}

#[test]
fn a_replica() {
    let two = peer("two", 2);
    let mut options = options(vec![two.clone()]);
    options.tls = Some(tls());
    let part = Part::Replica {
        follow: Some(&two),
        synchronous_standby_names: String::new(),
    };
    let conf = conf_of(&options, "/run/pg", &part);
    assert_eq!(setting(&conf, "primary_slot_name"), "'trilith_one'");
    // One level of escapes for the connection string, one for the file.
    let here = "/srv/it\\\\''s \\\\\\\\ here";
    let expected = format!(
        "'host=two.trilith.internal hostaddr=10.0.0.2 sslmode=verify-full \
         sslrootcert=''{here}/run/pg/tls/ca.pem'' sslcert=''{here}/run/pg/tls/server.pem'' \
         sslkey=''{here}/run/pg/tls/server.pem'' ssl_min_protocol_version=TLSv1.3 port=5433 \
         user=trilith_replication passfile=''{here}/postgres/trilith.pgpass'' \
         application_name=one gssencmode=disable connect_timeout=5 keepalives_idle=5 \
         keepalives_interval=2 keepalives_count=3 tcp_user_timeout=10000'"
    );
    assert_eq!(setting(&conf, "primary_conninfo"), expected);
    assert!(
        !conf.contains("replpw"),
        "the password is in a file of its own"
    );
    assert_eq!(pgpass(&options), "*:*:*:trilith_replication:replpw\n");
}

#[test]
fn what_a_server_is_changes_in_its_settings() {
    let mut options = primary();
    options.tls = Some(tls());
    let (two, three) = (peer("two", 2), peer("three-b", 3));
    let conf = |part: Part<'_>| trilith_conf_as(&options, Path::new("/run/pg"), &part);
    let names = [&two.name, &three.name];
    for (acks, names, expected) in [
        (0, &names[..], ""),
        (2, &[], ""),
        (1, &names[..1], "ANY 1 (\"two\")"),
        (2, &names[..], "ANY 2 (\"two\", \"three-b\")"),
    ] {
        let any = any_of(acks, names.iter().copied());
        assert_eq!(any, expected);
        let conf = conf(Part::Primary {
            synchronous_standby_names: any,
        });
        let expected = format!("'{expected}'");
        assert_eq!(setting(&conf, "synchronous_standby_names"), expected);
        assert!(!conf.contains("primary_conninfo"));
    }

    let followed = |follow| {
        let conf = conf(Part::Replica {
            follow,
            synchronous_standby_names: String::new(),
        });
        assert_eq!(setting(&conf, "synchronous_standby_names"), "''");
        assert_eq!(setting(&conf, "primary_slot_name"), "'trilith_one'");
        setting(&conf, "primary_conninfo").to_owned()
    };
    assert_eq!(followed(None), "''", "it receives from nobody");
    assert!(followed(Some(&two)).contains("hostaddr=10.0.0.2"));
    assert!(followed(Some(&three)).contains("host=three-b.trilith.internal"));
}

#[test]
fn tls_has_the_last_word_on_tls() {
    let mut options = primary();
    let conf = conf_of(&options, "/run/pg", &confirmed_by(""));
    assert_eq!(setting(&conf, "ssl"), "'off'");

    options.tls = Some(tls());
    let conf = conf_of(&options, "/run/pg", &confirmed_by(""));
    let file = |name| format!("'/srv/it''s \\\\ here/run/pg/tls/{name}'");
    for (name, expected) in [
        ("ssl", "'on'".to_owned()),
        ("ssl_cert_file", file("server.pem")),
        ("ssl_key_file", file("server.pem")),
        ("ssl_ca_file", file("ca.pem")),
        ("ssl_min_protocol_version", "'TLSv1.3'".to_owned()),
    ] {
        assert_eq!(setting(&conf, name), expected, "{name}");
    }
}

/// The lines without the comments.
fn hba(options: &Options, access: Access) -> Vec<String> {
    let text = pg_hba(options, access);
    assert!(text.ends_with('\n'));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

const CERTIFICATE: &str = "scram-sha-256 clientcert=verify-ca";

#[test]
fn other_servers_need_a_certificate_and_the_application_stays_here() {
    let mut options = primary();
    options.listen = vec![[10, 0, 0, 1].into()];
    // Its own address is among those of the cluster.
    options.allowed_clients.push([10, 0, 0, 1].into());
    let own = [
        "local all \"trilith_admin\" scram-sha-256",
        "host \"app\" \"app\" 10.0.0.1/32 scram-sha-256",
        "host \"postgres\" \"trilith_monitor\" 10.0.0.1/32 scram-sha-256",
    ];
    assert_eq!(hba(&options, Access::Open), own, "no certificates, nobody");

    options.tls = Some(tls());
    let others = ["10.0.0.2/32", "10.0.0.3/32", "fd00::3/128"].map(|from| {
        [
            format!("hostssl replication \"trilith_replication\" {from} {CERTIFICATE}"),
            format!("hostssl \"postgres\" \"trilith_replication\" {from} {CERTIFICATE}"),
            format!("hostssl \"postgres\" \"trilith_monitor\" {from} {CERTIFICATE}"),
        ]
    });
    let others = others.as_flattened();
    let open = hba(&options, Access::Open);
    assert_eq!(open[..3], own);
    assert_eq!(open[3..], *others);

    let closed = hba(&options, Access::Closed);
    let without_application: Vec<_> = open
        .iter()
        .filter(|line| !line.contains("\"app\""))
        .collect();
    assert_eq!(closed.len(), open.len() - 1);
    assert_eq!(closed.iter().collect::<Vec<_>>(), without_application);
}

#[test]
fn servers_on_loopback_addresses_all_come_from_127_0_0_1() {
    let mut options = options(vec![Peer {
        name: ServerName::new("two").unwrap(),
        address: ([127, 0, 1, 2], 5433).into(),
    }]);
    options.listen = vec![[127, 0, 1, 1].into()];
    options.allowed_clients = vec![[127, 0, 1, 1].into(), [127, 0, 1, 2].into()];
    options.tls = Some(tls());
    let from = |kind: &str, user: &str| -> Vec<String> {
        let lines = hba(&options, Access::Open);
        let of_user = lines
            .iter()
            .filter(|line| line.starts_with(kind) && line.contains(&format!("\"{user}\"")));
        let addresses = of_user.map(|line| line.split(' ').nth(3).unwrap().to_owned());
        addresses.collect()
    };
    assert_eq!(from("host ", "app"), ["127.0.0.1/32", "127.0.1.1/32"]);
    assert_eq!(from("host ", "trilith_replication"), [""; 0]);
    assert_eq!(
        from("hostssl replication ", "trilith_replication"),
        ["127.0.0.1/32", "127.0.1.1/32", "127.0.1.2/32"]
    );
}
