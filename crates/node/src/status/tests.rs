use std::path::Path;

use trilith_monitor::api::{
    AddressStatus, Agreed, DatabasePart, DatabaseServer, InstanceStatus, SyncSetStatus,
};

use super::*;

const THREE: &str = r#"
    [cluster]
    name = "foobar"
    vip = "10.0.0.100/24"
    [[server]]
    name = "one"
    address = "10.0.0.1"
    [[server]]
    name = "two"
    address = "10.0.0.2"
    [[server]]
    name = "three"
    address = "10.0.0.3"
    [[site]]
    host = "www.foobar.com"
    tls = "internal"
    [[site.route]]
    path = "/*"
    app = "web"
    [app.web]
    run = "./bin/server"
    [database]
"#;

fn config(text: &str) -> Config {
    let loaded = Config::parse("trilith.toml", text, Path::new("/etc/trilith"));
    loaded
        .unwrap_or_else(|d| panic!("{}", d.render(false)))
        .config
}

/// Every server ready, two instances of `web` on each web server.
fn all_ready(config: &Config) -> Vec<ServerStatus> {
    let ready = |server: &Server| {
        let roles: Vec<String> = server.roles.iter().map(|r| r.to_string()).collect();
        let mut status = ServerStatus::down(
            server.name.as_str(),
            &server.address.to_string(),
            roles,
            String::new(),
        );
        status.state = ServerState::Ready;
        status.store = Some(store(3));
        if server.name.as_str() == "one" {
            let held = config.addresses().iter();
            status.addresses = held
                .map(|a| address(&a.ip.to_string(), "held", 7))
                .collect();
        }
        if status.has_role("web") {
            status.instances = ["web.1", "web.2"]
                .map(|name| instance(name, "live"))
                .to_vec();
        }
        status
    };
    config.servers.iter().map(ready).collect()
}

fn store(voters: usize) -> StoreStatus {
    let member = |name: &&str| trilith_monitor::api::StoreMember {
        name: (*name).into(),
        voter: true,
    };
    StoreStatus {
        kind: "embedded".into(),
        leader: Some("one".into()),
        term: 1,
        has_quorum: true,
        revision: 9,
        members: ["one", "two", "three"][..voters]
            .iter()
            .map(member)
            .collect(),
    }
}

fn address(address: &str, state: &str, epoch: u64) -> AddressStatus {
    AddressStatus {
        address: address.into(),
        state: state.into(),
        epoch: Some(epoch),
        lease_left_ms: None,
        since_unix_ms: None,
        problem: None,
    }
}

fn instance(name: &str, state: &str) -> InstanceStatus {
    InstanceStatus {
        name: name.into(),
        app: "web".into(),
        state: state.into(),
        since_unix_ms: 0,
        release: String::new(),
        pid: None,
        address: None,
        restarts: 0,
        last_failure: None,
    }
}

fn reasons(config: &Config, servers: &[ServerStatus]) -> String {
    let survival = survival(config, "one", servers);
    assert_eq!(survival.yes, survival.reasons.is_empty());
    survival.reasons.join("; ")
}

/// The primary on `one`, and what `one` sees of the others.
fn database(role_of_two: Option<&str>, synchronous: &[&str]) -> Vec<ServerStatus> {
    let mut servers = all_ready(&config(THREE));
    let seen = |server: &str, role: Option<&str>| DatabaseServer {
        server: server.into(),
        reachable: role.is_some(),
        role: role.map(Into::into),
        lsn: None,
        lag_bytes: None,
        error: None,
    };
    servers[0].database_view = vec![
        seen("one", Some("primary")),
        seen("two", role_of_two),
        seen("three", None),
    ];
    let agreed = Agreed {
        revision: 9,
        primary: Some("one".into()),
        open: true,
        synchronous: SyncSetStatus {
            acks: synchronous.len().min(1),
            members: synchronous.iter().map(|name| (*name).into()).collect(),
        },
        ..Agreed::default()
    };
    servers[0].database = Some(DatabasePart {
        agreed,
        ..DatabasePart::default()
    });
    servers
}

#[test]
fn somebody_has_to_be_able_to_follow_the_primary() {
    let config = config(THREE);
    assert_eq!(
        reasons(&config, &all_ready(&config)),
        "the database has no primary"
    );
    let lost = "the database is on one alone: no replica is up";
    assert_eq!(reasons(&config, &database(None, &["two"])), lost);
    assert_eq!(
        reasons(&config, &database(Some("replica"), &[])),
        "only one has every write of the database: no replica is in the synchronous set"
    );
    assert_eq!(reasons(&config, &database(Some("replica"), &["two"])), "");
    let mut servers = database(Some("replica"), &[]);
    servers[0].database.as_mut().unwrap().agreed.asynchronous = true;
    assert_eq!(reasons(&config, &servers), "");
}

#[test]
fn an_address_that_nobody_holds_is_a_reason() {
    let config = config(&THREE.replace("[database]", ""));
    let mut servers = all_ready(&config);
    assert_eq!(reasons(&config, &servers), "");
    servers[0].addresses[0].state = "waiting".into();
    assert_eq!(reasons(&config, &servers), "nobody holds 10.0.0.100");
    // The holder may hold it without a lease.
    servers[1].addresses = vec![address("10.0.0.100", "orphan", 0)];
    assert_eq!(reasons(&config, &servers), "");
    let status = cluster_status(&config, "three", servers, 0);
    assert!(status.floating_addresses[0].orphan);
}

#[test]
fn so_is_a_store_that_cannot_lose_one() {
    let config = config(&THREE.replace("[database]", ""));
    let mut servers = all_ready(&config);
    for server in &mut servers {
        server.store = Some(store(2));
    }
    assert_eq!(
        reasons(&config, &servers),
        "2 of the servers vote; it takes three to lose one"
    );
    servers[0].store.as_mut().unwrap().has_quorum = false;
    assert_eq!(
        reasons(&config, &servers),
        "the servers cannot agree: no majority answers"
    );
    for server in &mut servers {
        server.store = None;
    }
    assert_eq!(
        reasons(&config, &servers),
        "the servers have no common store yet"
    );
}

#[test]
fn of_two_who_say_so_the_later_grant_counts() {
    let config = config(THREE);
    let mut servers = all_ready(&config);
    servers[2].addresses = vec![address("10.0.0.100", "held", 8)];
    let status = cluster_status(&config, "one", servers, 0);
    assert_eq!(
        status.floating_addresses[0].holder.as_deref(),
        Some("three")
    );
}

#[test]
fn without_floating_address_and_database_it_survives() {
    let text = THREE
        .replace("vip = \"10.0.0.100/24\"", "")
        .replace("[database]", "");
    let config = config(&text);
    assert_eq!(reasons(&config, &all_ready(&config)), "");
}

#[test]
fn a_server_that_is_down_is_a_reason() {
    let text = THREE
        .replace("vip = \"10.0.0.100/24\"", "")
        .replace("[database]", "");
    let config = config(&text);
    let mut servers = all_ready(&config);
    servers[1].state = ServerState::Down;
    assert_eq!(reasons(&config, &servers), "two is down");
    servers[2].instances = vec![instance("web.1", "backoff")];
    assert_eq!(
        reasons(&config, &servers),
        "two is down; the app web is live on one only"
    );
}

#[test]
fn a_single_server_cannot_survive() {
    let text = "[[server]]\nname = \"one\"\naddress = \"10.0.0.1\"\n";
    let config = config(text);
    assert_eq!(
        reasons(&config, &all_ready(&config)),
        "there is no server but one"
    );
}

#[test]
fn the_classic_drawing_names_its_single_points() {
    let mut text = THREE
        .replace("vip = \"10.0.0.100/24\"", "")
        .replace("[database]", "");
    text = text.replace("\"10.0.0.1\"", "\"10.0.0.1\"\nroles = [\"edge\"]");
    text = text.replace("\"10.0.0.2\"", "\"10.0.0.2\"\nroles = [\"web\", \"db\"]");
    text = text.replace("\"10.0.0.3\"", "\"10.0.0.3\"\nroles = [\"web\", \"db\"]");
    let config = config(&text);
    assert_eq!(
        reasons(&config, &all_ready(&config)),
        "one is the only edge"
    );
}

#[test]
fn a_site_is_as_healthy_as_what_it_needs() {
    let config = config(THREE);
    let mut servers = all_ready(&config);
    let site = |servers: &[ServerStatus]| site_status(&config, &config.sites[0], servers);
    let status = site(&servers);
    assert_eq!(status.state, SiteState::Healthy);
    assert_eq!(status.urls, ["https://www.foobar.com/"]);
    assert_eq!(
        (
            status.apps[0].instances_live,
            status.apps[0].instances_wanted
        ),
        (6, 6)
    );

    servers[0].instances[0].state = "starting".into();
    assert_eq!(site(&servers).state, SiteState::Degraded);
    servers[2].state = ServerState::Down;
    assert_eq!(
        site(&servers).apps[0].servers_live,
        2,
        "what runs on a lost server counts for nothing"
    );
    for server in &mut servers {
        server.instances.clear();
    }
    assert_eq!(site(&servers).state, SiteState::Down);
}

#[test]
fn ports_that_browsers_need_are_in_the_urls() {
    let ports = "\n[ports]\nhttp = 8080\nhttps = 8443\n";
    let text = format!("{THREE}{ports}").replace(
        "tls = \"internal\"",
        "tls = \"internal\"\nhttps_redirect = false",
    );
    let config = config(&text);
    assert_eq!(
        site_urls(&config, &config.sites[0]),
        [
            "https://www.foobar.com:8443/",
            "http://www.foobar.com:8080/"
        ]
    );
}

#[test]
fn the_view_of_the_asked_server_counts() {
    let config = config(THREE);
    let mut servers = all_ready(&config);
    let database = |server: &str, role: &str| DatabaseServer {
        server: server.into(),
        reachable: true,
        role: Some(role.into()),
        lsn: None,
        lag_bytes: None,
        error: None,
    };
    servers[1].database_view = vec![database("one", "primary"), database("two", "replica")];
    let status = cluster_status(&config, "three", servers.clone(), 0);
    assert_eq!(status.database.unwrap().primary.as_deref(), Some("one"));
    servers[2].database_view = vec![database("two", "primary")];
    let status = cluster_status(&config, "three", servers, 0);
    assert_eq!(status.database.unwrap().primary.as_deref(), Some("two"));
    let floating = &status.floating_addresses[0];
    assert_eq!(
        (floating.address.as_str(), floating.holder.as_deref()),
        ("10.0.0.100", Some("one"))
    );
}
