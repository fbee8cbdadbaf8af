use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use super::*;

#[test]
fn generated_passwords_differ_and_are_plain() {
    let (one, two) = (Password::generate().unwrap(), Password::generate().unwrap());
    assert_ne!(one, two);
    assert_eq!(one.expose().len(), 32);
    assert!(Password::new(one.expose()).is_some());
}

#[test]
fn debug_hides_them() {
    let secrets = Secrets::generate().unwrap();
    let text = format!("{secrets:?}");
    for password in [&secrets.superuser, &secrets.app, &secrets.monitor] {
        assert!(!text.contains(password.expose()));
    }
}

#[test]
fn the_file_is_made_once_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("database.toml");
    let made = Secrets::load_or_create(&path).unwrap();
    assert_eq!(Secrets::load_or_create(&path).unwrap(), made);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Secrets::load(&path).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn racing_processes_agree() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("database.toml");
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            thread::spawn(move || Secrets::load_or_create(&path).unwrap())
        })
        .collect();
    let all: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(all.iter().all(|secrets| *secrets == all[0]));
}

#[test]
fn broken_files_are_refused() {
    let whole = Secrets::generate().unwrap().print();
    assert!(Secrets::parse(&whole).is_ok());
    for (broken, why) in [
        (String::new(), "missing"),
        (whole.replace("monitor", "mentor"), "unknown name"),
        (format!("{whole}app = \"x\"\n"), "given twice"),
        (whole.replacen('"', "", 1), "in quotes"),
        (whole.replacen("app = \"", "app = \"a b", 1), "in quotes"),
        (whole.replace('=', ":"), "expected name"),
    ] {
        let (_, got) = Secrets::parse(&broken).unwrap_err();
        assert!(got.contains(why), "{got} / {why}");
    }
}

#[test]
fn urls() {
    let password = Password::new("pw").unwrap();
    let at = |host: &str| {
        url(
            "app",
            &password,
            SocketAddr::new(host.parse().unwrap(), 5432),
            "foobar",
        )
    };
    assert_eq!(at("127.0.0.1"), "postgresql://app:pw@127.0.0.1:5432/foobar");
    assert_eq!(at("::1"), "postgresql://app:pw@[::1]:5432/foobar");
}

#[test]
fn further_users_have_passwords_of_their_own() {
    let mut secrets = Secrets::generate().unwrap();
    secrets.superuser = Password::new("superuser").unwrap();
    let password = secrets.of_user("reader");
    // It is in use: another derivation would lock applications out.
    assert_eq!(password.expose(), "8tSn9boLxsfxnK4c70F5fVJ2JcmIwoRF");
    assert!(Password::new(password.expose()).is_some());
    assert_ne!(password, secrets.of_user("writer"));
    secrets.superuser = Password::new("another").unwrap();
    assert_ne!(password, secrets.of_user("reader"));
}
