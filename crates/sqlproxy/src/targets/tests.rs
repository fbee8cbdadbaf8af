use super::*;

fn target(name: &str, local: bool) -> Target {
    Target {
        name: ServerName::new(name).unwrap(),
        address: ([127, 0, 0, 1], 1).into(),
        local,
    }
}

fn tenure(server: &str, epoch: u64) -> Option<Tenure> {
    Some(Tenure {
        server: ServerName::new(server).unwrap(),
        epoch,
    })
}

fn led_by(server: &str, epoch: u64) -> Targets {
    Targets {
        primary: Some(target(server, false)),
        tenure: tenure(server, epoch),
        replicas: Vec::new(),
    }
}

fn names(targets: &Targets, kind: Kind, turn: usize) -> String {
    let candidates = targets.candidates(kind, turn);
    let names: Vec<_> = candidates.iter().map(|c| c.target.name.as_str()).collect();
    names.join(" ")
}

#[test]
fn local_first_then_the_others_in_turn_then_the_primary() {
    let targets = Targets {
        replicas: vec![target("a", false), target("b", false), target("me", true)],
        ..led_by("p", 1)
    };
    assert_eq!(names(&targets, Kind::ReadWrite, 5), "p");
    assert_eq!(names(&targets, Kind::ReadOnly, 0), "me a b p");
    assert_eq!(names(&targets, Kind::ReadOnly, 1), "me b a p");
    assert_eq!(names(&targets, Kind::ReadOnly, 2), "me a b p");
    let tenures = targets.candidates(Kind::ReadOnly, 0);
    let tenures: Vec<_> = tenures.iter().map(|c| c.tenure).collect();
    assert_eq!(tenures, [None, None, None, targets.tenure.as_ref()]);
}

#[test]
fn without_primary_or_replicas() {
    let targets = Targets::default();
    assert_eq!(names(&targets, Kind::ReadWrite, 0), "");
    assert_eq!(names(&targets, Kind::ReadOnly, 3), "");
    assert_eq!(names(&led_by("p", 1), Kind::ReadOnly, 3), "p");
}

#[test]
fn a_primary_that_the_lease_does_not_name_is_none() {
    for tenure in [None, tenure("q", 2)] {
        let targets = Targets {
            tenure,
            ..led_by("p", 1)
        };
        assert_eq!(names(&targets, Kind::ReadWrite, 0), "");
        assert_eq!(names(&targets, Kind::ReadOnly, 0), "");
    }
}
