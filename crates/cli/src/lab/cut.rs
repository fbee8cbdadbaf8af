//! Ways to cut the lines of a lab, and to mend them.

use std::net::Ipv4Addr;

use super::{Lab, Step};

/// A fault of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The cable is out: nothing goes in or out, and both ends see it.
    Link { server: String },
    /// Silently, one way only.
    OneWay {
        server: String,
        direction: Direction,
    },
    /// These and the others do not reach each other; clients reach all of them.
    Apart {
        minority: Vec<(String, Ipv4Addr)>,
        majority: Vec<(String, Ipv4Addr)>,
    },
}

/// What is lost, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Direction {
    /// What is sent to it: it is deaf.
    In,
    /// What it sends: it is mute.
    Out,
}

impl Cut {
    pub fn cut(&self, lab: &Lab) -> Vec<Step> {
        let switch = lab.switch();
        match self {
            Self::Link { server } => vec![ip(format!("-n {switch} link set {server} down"))],
            Self::OneWay { server, direction } => {
                let (namespace, device) = sender(lab, server, *direction);
                // This queue takes everything and gives nothing, and its sender learns nothing.
                vec![tc(format!(
                    "-n {namespace} qdisc replace dev {device} root blackhole"
                ))]
            }
            Self::Apart { .. } => self.routes(lab, "replace"),
        }
    }

    /// Right also when the cut was made in part only, or not at all: what is not there need not go.
    pub fn mend(&self, lab: &Lab) -> Vec<Step> {
        let switch = lab.switch();
        match self {
            Self::Link { server } => vec![ip(format!("-n {switch} link set {server} up"))],
            Self::OneWay { server, direction } => {
                let (namespace, device) = sender(lab, server, *direction);
                vec![tc(format!(
                    "-n {namespace} qdisc replace dev {device} root pfifo limit 1000"
                ))]
            }
            Self::Apart { .. } => self.routes(lab, "flush"),
        }
    }

    /// Each side gets a route into nowhere for each server of the other side. That an answer gets
    /// lost would be enough for TCP, but what is on its way must not arrive either.
    fn routes(&self, lab: &Lab, verb: &str) -> Vec<Step> {
        let Self::Apart { minority, majority } = self else {
            return Vec::new();
        };
        let mut steps = Vec::new();
        for (from, to) in [(minority, majority), (majority, minority)] {
            for (server, _) in from {
                let namespace = lab.namespace(server);
                if verb == "flush" {
                    steps.push(ip(format!("-n {namespace} route flush type blackhole")));
                    continue;
                }
                for (_, address) in to {
                    steps.push(ip(format!(
                        "-n {namespace} route {verb} blackhole {address}/32"
                    )));
                }
            }
        }
        steps
    }
}

/// Takes from a server every address but its own, such as a floating one that nobody is left to give
/// up.
pub fn only_address(lab: &Lab, server: &str, address: Ipv4Addr) -> Vec<Step> {
    let namespace = lab.namespace(server);
    vec![
        ip(format!("-n {namespace} address flush dev eth0")),
        ip(format!("-n {namespace} address add {address}/24 dev eth0")),
    ]
}

/// Where the lost packets would be sent from: the server itself, or the switch's port to it.
fn sender(lab: &Lab, server: &str, direction: Direction) -> (String, String) {
    match direction {
        Direction::In => (lab.switch().to_string(), server.to_owned()),
        Direction::Out => (lab.namespace(server).to_string(), "eth0".to_owned()),
    }
}

fn ip(arguments: String) -> Step {
    Step::new("ip", &arguments)
}

fn tc(arguments: String) -> Step {
    Step::new("tc", &arguments)
}
