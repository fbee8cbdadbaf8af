use std::path::Path;

use super::*;
use crate::conf::{pg_hba, trilith_conf_as};
use crate::options::Peer;
use crate::secrets::Secrets;

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

fn options() -> Options {
    let servers: Vec<Peer> = (1..=3)
        .map(|number| Peer {
            name: name(&format!("s-{number}")),
            address: ([10, 0, 0, number], 5433).into(),
        })
        .collect();
    let secrets = Secrets::generate().unwrap();
    let mut options = Options::new(name("s-1"), Path::new("/state"), secrets);
    options.listen = vec![[10, 0, 0, 1].into()];
    options.servers = servers;
    options
}

fn set(acks: usize, names: &[&str]) -> ConfirmedBy {
    ConfirmedBy::Set(SyncSet {
        members: names.iter().map(|text| name(text)).collect(),
        acks,
    })
}

#[test]
fn the_synchronous_set_is_read_as_it_was_written() {
    for confirmed_by in [
        set(0, &[]),
        set(1, &["a"]),
        set(2, &["a", "b-c", "d"]),
        ConfirmedBy::Nobody,
    ] {
        let text = confirmed_by.text();
        assert_eq!(ConfirmedBy::parse(&text), Some(confirmed_by), "{text}");
    }
    for text in [
        "*",
        "a",
        "FIRST 1 (\"a\")",
        "ANY 0 (\"a\")",
        "ANY 2 (\"a\")",
        "ANY 1 (a)",
        "ANY 1 (\"a\", \"a\")",
        "ANY 1 (\"trilith_nobody\", \"a\")",
        "ANY 1 (\"A B\")",
        "ANY x (\"a\")",
        "ANY 1 (",
    ] {
        assert_eq!(ConfirmedBy::parse(text), None, "{text}");
    }
}

#[test]
fn the_followed_server_is_read_as_it_was_written() {
    let options = options();
    for number in [2, 3] {
        let server = name(&format!("s-{number}"));
        let settings = Settings::replica(Some(server.clone()));
        let conf = trilith_conf_as(&options, Path::new("/run"), &settings.part(&options));
        let line = conf
            .lines()
            .find_map(|line| line.strip_prefix("primary_conninfo = '"))
            .unwrap();
        let conninfo = line.strip_suffix('\'').unwrap().replace("''", "'");
        assert_eq!(followed(&options, &conninfo), Some(server), "{conninfo}");
    }
    for (conninfo, followed_by) in [
        ("", None),
        ("host=10.0.0.2", None),
        ("host=10.0.0.2 port=1", None),
        (
            "host='10.0.0.2' port='5433' passfile='/a b\\'c'",
            Some("s-2"),
        ),
        ("host=trilith hostaddr=10.0.0.3  port=5433", Some("s-3")),
        ("host='10.0.0.2", None),
        ("host", None),
        ("host=10.0.0.2 port=5433 \\", None),
    ] {
        let expected = followed_by.map(name);
        assert_eq!(followed(&options, conninfo), expected, "{conninfo}");
    }
    let nobody = Settings::replica(None);
    let conf = trilith_conf_as(&options, Path::new("/run"), &nobody.part(&options));
    assert!(conf.contains("primary_conninfo = ''\n"), "{conf}");
}

#[test]
fn whether_the_application_is_let_in_is_read_as_it_was_written() {
    let options = options();
    assert!(lets_application_in(
        &pg_hba(&options, Access::Open),
        &options
    ));
    assert!(!lets_application_in(
        &pg_hba(&options, Access::Closed),
        &options
    ));
    assert!(!lets_application_in(
        "# host \"app\" \"app\" all trust",
        &options
    ));
    assert!(!lets_application_in("", &options));
}
