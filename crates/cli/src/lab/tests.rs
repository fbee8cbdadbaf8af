use super::*;

fn lab() -> Lab {
    Lab {
        id: "0badcafe".to_owned(),
        servers: vec!["one".to_owned(), "two".to_owned(), "three".to_owned()],
    }
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

fn text(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{step}\n")).collect()
}

#[test]
fn the_commands_that_make_a_lab() {
    let steps = plan::build(&lab(), &[1, 2, 3].map(address));
    insta::assert_snapshot!(text(&steps));
}

#[test]
fn every_cut_can_be_mended() {
    let server = || "one".to_owned();
    let named = |last: u8, name: &str| (name.to_owned(), address(last));
    let cuts = [
        Cut::Link { server: server() },
        Cut::OneWay {
            server: server(),
            direction: Direction::In,
        },
        Cut::OneWay {
            server: server(),
            direction: Direction::Out,
        },
        Cut::Apart {
            minority: vec![named(1, "one")],
            majority: vec![named(2, "two"), named(3, "three")],
        },
    ];
    let all = cuts.map(|cut| {
        format!(
            "{cut:?}\n{}mended by\n{}",
            text(&cut.cut(&lab())),
            text(&cut.mend(&lab()))
        )
    });
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn names_come_from_the_folder_and_back_from_the_record() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Lab::recorded(dir.path()).unwrap(), None);
    let lab = Lab::of_folder(dir.path(), ["one".to_owned(), "two".to_owned()]);
    let names: String = lab.namespaces().iter().map(|n| format!("{n}\n")).collect();
    // Somebody else's names in it are nobody's business.
    let foreign = "docker\ntrilith-xyz\ntrilith-0badcafe-../etc\n";
    fs::write(dir.path().join(RECORD), names + foreign).unwrap();
    assert_eq!(Lab::recorded(dir.path()).unwrap(), Some(lab));
    // None of these exist, so all there is to remove is the record.
    assert!(remove(dir.path()).unwrap());
    assert!(!remove(dir.path()).unwrap());
    assert!(!dir.path().join(RECORD).exists());
}

#[test]
fn other_folders_have_other_labs() {
    let a = Lab::of_folder(Path::new("/a"), []);
    let b = Lab::of_folder(Path::new("/b"), []);
    assert_ne!(a.client(), b.client());
    assert!(a.client().to_string().len() < 40);
}
