//! The commands that make a lab and take it away. Nothing here runs them.

use std::fmt;
use std::net::Ipv4Addr;

use super::{CLIENT, CLIENT_LAST, Lab, Namespace};

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub program: &'static str,
    pub arguments: Vec<String>,
}

impl Step {
    /// From one line; no argument holds a blank.
    pub fn new(program: &'static str, arguments: &str) -> Self {
        Self {
            program,
            arguments: arguments.split(' ').map(str::to_owned).collect(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.program, self.arguments.join(" "))
    }
}

pub(super) fn build(lab: &Lab, addresses: &[Ipv4Addr]) -> Vec<Step> {
    let switch = lab.switch();
    let mut steps = Vec::new();
    let mut ip = |arguments: String| steps.push(Step::new("ip", &arguments));
    ip(format!("netns add {switch}"));
    // It learns which port an address is behind from what comes in there, as a real one does.
    ip(format!(
        "-n {switch} link add bridge type bridge mcast_snooping 0"
    ));
    ip(format!("-n {switch} link set bridge up"));
    let client = addresses.first().map(|first| {
        let [a, b, c, _] = first.octets();
        (CLIENT, Ipv4Addr::new(a, b, c, CLIENT_LAST))
    });
    let servers = lab.servers.iter().map(String::as_str);
    for (name, address) in servers.zip(addresses.iter().copied()).chain(client) {
        let inside = lab.namespace(name);
        ip(format!("netns add {inside}"));
        ip(format!(
            "-n {switch} link add {name} type veth peer name eth0 netns {inside}"
        ));
        ip(format!("-n {switch} link set {name} master bridge"));
        ip(format!("-n {switch} link set {name} up"));
        ip(format!("-n {inside} link set lo up"));
        ip(format!("-n {inside} address add {address}/24 dev eth0"));
        ip(format!("-n {inside} link set eth0 up"));
    }
    steps
}

/// All that is in a namespace goes with it.
pub(super) fn delete(namespace: &Namespace) -> Step {
    Step::new("ip", &format!("netns delete {namespace}"))
}
