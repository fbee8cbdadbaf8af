use super::*;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn name(text: &str) -> ServerName {
    ServerName::new(text).unwrap()
}

#[test]
fn servers_and_instances_start_in_different_places() {
    let mut offsets = BTreeSet::new();
    for server in ["one", "two", "three"] {
        for number in 1..=4 {
            offsets.insert(offset(&name(server), &InstanceId::new("web", number)) % 12_000);
        }
    }
    assert_eq!(offsets.len(), 12);
}

#[test]
fn never_gives_a_port_twice_or_one_in_use() {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let used = listener.local_addr().unwrap().port();
    let range = used.saturating_sub(3)..=used.saturating_add(3);
    let ports = Ports::new(HOST, range.clone());
    let id = InstanceId::new("web", 1);
    let mut given = Vec::new();
    while let Some(port) = ports.choose(&name("one"), &id, 0) {
        assert_ne!(port.number(), used);
        assert!(range.contains(&port.number()));
        assert!(
            given
                .iter()
                .all(|other: &Port| other.number() != port.number())
        );
        given.push(port);
        assert!(given.len() <= 6);
    }
    let free = given.pop().map(|port| port.number());
    if let Some(free) = free {
        let again = ports.choose(&name("one"), &id, 5).map(|port| port.number());
        assert_eq!(again, Some(free));
    }
}

#[test]
fn a_wildcard_listener_counts_as_use() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let used = listener.local_addr().unwrap().port();
    let ports = Ports::new(HOST, used..=used);
    assert!(
        ports
            .choose(&name("one"), &InstanceId::new("web", 1), 0)
            .is_none()
    );
}

#[test]
fn every_start_moves_on() {
    let ports = Ports::new(HOST, 28_000..=28_999);
    let id = InstanceId::new("web", 1);
    let first = ports
        .choose(&name("ports-test"), &id, 0)
        .map(|port| port.number());
    let second = ports
        .choose(&name("ports-test"), &id, 1)
        .map(|port| port.number());
    assert!(first.is_some() && second.is_some());
    assert_ne!(first, second);
}
