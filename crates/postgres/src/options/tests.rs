use super::*;

fn options() -> Options {
    let name = |n: &str| ServerName::new(n).unwrap();
    let peer = |n: &str, last: u8| Peer {
        name: name(n),
        address: ([10, 0, 0, last], 5433).into(),
    };
    let secrets = Secrets::generate().unwrap();
    let mut options = Options::new(name("one"), Path::new("/srv/one"), secrets);
    options.servers = vec![peer("one", 1), peer("two", 2), peer("three", 3)];
    options.listen = vec![[10, 0, 0, 1].into()];
    options
}

#[test]
fn a_usual_one_is_valid() {
    let mut options = options();
    options.validate().unwrap();
    options.parameters = [("work_mem", "8MB"), ("pg_stat_statements.max", "1000")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    options.validate().unwrap();
}

#[test]
fn parameters_of_ours_are_refused() {
    for (name, value, why) in [
        ("port", "1", "Trilith sets this one itself"),
        ("ssl_cert_file", "x", "Trilith sets this one itself"),
        ("recovery_target_time", "x", "Trilith sets this one itself"),
        ("include", "/etc/passwd", "files cannot be included"),
        ("Work_Mem", "1", "not the name"),
        ("a b", "1", "not the name"),
        ("a.b.c", "1", "not the name"),
        ("", "1", "not the name"),
        ("1a", "1", "not the name"),
        ("work_mem", "8MB\nport = 1", "one line"),
    ] {
        let mut options = options();
        options.parameters = [(name.to_owned(), value.to_owned())].into();
        let error = options.validate().unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
        assert!(error.starts_with("database.parameters."), "{error}");
    }
}

#[test]
fn names_that_cannot_be_used_are_refused() {
    for name in [
        "",
        "a b",
        "1a",
        "postgres",
        "template1",
        "pg_x",
        "trilith_app",
        "a\"b",
    ] {
        let mut options = options();
        options.database = name.to_owned();
        assert!(options.validate().is_err(), "{name}");
    }
    let mut options = options();
    options.data_dir = PathBuf::from("relative");
    assert!(options.validate().is_err());
}

#[test]
fn servers_are_found_by_name() {
    let options = options();
    let others: Vec<&str> = options.others().map(|peer| peer.name.as_str()).collect();
    assert_eq!(others, ["two", "three"]);
    let found = options.peer(&ServerName::new("three").unwrap()).unwrap();
    assert_eq!(found.address, ([10, 0, 0, 3], 5433).into());
    assert_eq!(options.peer(&ServerName::new("four").unwrap()), None);
}

#[test]
fn slot_names_fit_and_differ() {
    let slot = |name: &str| slot_name(&ServerName::new(name).unwrap());
    assert_eq!(slot("web-1"), "trilith_web_1");
    let (a, b) = (slot(&"a".repeat(63)), slot(&format!("{}b", "a".repeat(62))));
    assert_eq!((a.len(), b.len()), (63, 63));
    assert_ne!(a, b);
}

#[test]
fn root_is_no_account_for_postgresql() {
    assert!(OsUser::lookup("root").is_err());
    let error = OsUser::lookup("no-such-account-here").unwrap_err();
    assert!(error.to_string().contains("no such account"), "{error}");
}
