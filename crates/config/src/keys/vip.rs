//! `[vip]`, and `cluster.store` as a table.

use super::{Choice, Key, Kind, Preset, Section, Shape};

pub(super) static STORE: Section = Section {
    path: "cluster.store",
    shape: Shape::Inline,
    also: &[],
    meaning: "An etcd that keeps what the servers agree on, instead of Trilith itself.",
    keys: &[Key::new(
        "etcd",
        Kind::List("URLs, http://host:port"),
        Preset::Required,
        "The endpoints of one etcd cluster, version 3.4 or later. Each is tried in turn.",
    )
    .example(r#"["http://10.0.0.5:2379", "http://10.0.0.6:2379"]"#)
    .also(&["endpoints", "urls", "hosts"])],
};

pub(super) static MODES: [Choice; 4] = [
    Choice::new(
        "loopback",
        "the holder alone listens on it; for a trial on one machine",
    )
    .also(&["local", "lo", "localhost"]),
    Choice::new(
        "l2",
        "the holder puts it on a network interface and announces it to the neighbours (ARP, NDP)",
    )
    .also(&["arp", "layer2", "layer-2", "vrrp", "keepalived", "garp"]),
    Choice::new(
        "hook",
        "the holder runs a program, for instance one that calls a cloud provider",
    )
    .also(&["script", "command", "exec", "cloud"]),
    Choice::new("none", "Trilith leaves it alone: something else moves it")
        .also(&["off", "false", "disabled", "external", "manual"]),
];

static ON_QUORUM_LOSS: [Choice; 2] = [
    Choice::new(
        "orphan",
        "keep or take an address that no other machine answers for, and yield at the first conflict",
    )
    .also(&["keep", "hold", "stay"]),
    Choice::new("release", "give it up when the lease ends").also(&["drop", "give-up", "stop"]),
];

pub(super) static VIP: Section = Section {
    path: "vip",
    shape: Shape::Table,
    also: &["vrrp", "keepalived", "floating", "virtual_ip", "floating_address"],
    meaning: "How the floating addresses of `cluster.vip` are held.",
    keys: &[
        Key::new(
            "mode",
            Kind::OneOf {
                choices: &MODES,
                or: None,
            },
            Preset::Unset("\"loopback\" for an address in 127.0.0.0/8, else \"l2\""),
            "What makes a server reachable under the address.",
        )
        .example(r#""l2""#)
        .also(&["type", "kind", "method"])
        .in_template(),
        Key::new(
            "interface",
            Kind::Text("name of a network interface, such as eth0"),
            Preset::Unset("the one whose network has the address"),
            "Where the address is put with `mode = \"l2\"`, on every server.",
        )
        .example(r#""eth0""#)
        .also(&["iface", "dev", "device", "nic", "track_interface"])
        .in_template(),
        Key::new(
            "hook_take",
            Kind::List("strings: a program with its whole path, and its arguments"),
            Preset::Unset("nothing is run"),
            "With `mode = \"hook\"`: what a server runs to lead the address to itself. It must have \
             done so when it ends with 0, and may be run again. `{ip}`, `{prefix}` and `{server}` stand for \
             the address, the length of its prefix and the server's name.",
        )
        .example(r#"["/etc/trilith/take-address", "{ip}"]"#)
        .also(&["take", "notify_master", "on_take", "script", "hook"]),
        Key::new(
            "hook_release",
            Kind::List("strings: a program with its whole path, and its arguments"),
            Preset::Unset("nothing is run"),
            "With `mode = \"hook\"`: what a server runs when it gives the address up. Leave it out where \
             taking it elsewhere is enough.",
        )
        .example(r#"["/etc/trilith/release-address", "{ip}"]"#)
        .also(&["release", "notify_backup", "on_release"]),
        Key::new(
            "on_quorum_loss",
            Kind::OneOf {
                choices: &ON_QUORUM_LOSS,
                or: None,
            },
            Preset::Value(r#""orphan""#),
            "What happens when so many servers are lost that the others cannot agree any more. With \
             `\"orphan\"` the site stays reachable for as long as a single edge lives.",
        )
        .example(r#""release""#)
        .also(&["quorum_loss", "no_quorum", "no_quorum_policy"])
        .in_template(),
    ],
};
