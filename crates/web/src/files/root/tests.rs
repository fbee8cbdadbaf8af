use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const WAYS: [Resolver; 3] = [
    Resolver::Openat2 { cached: true },
    Resolver::Openat2 { cached: false },
    Resolver::Walk,
];

/// A code base with a public folder, secrets beside it, and links of every kind.
fn code_base() -> TempDir {
    let dir = TempDir::new().unwrap();
    let code = dir.path();
    fs::create_dir_all(code.join("public/sub/deep")).unwrap();
    fs::write(code.join("secret"), "secret").unwrap();
    fs::write(code.join("public/a.txt"), "a").unwrap();
    fs::write(code.join("public/sub/b.txt"), "b").unwrap();
    fs::write(code.join("public/sub/deep/c.txt"), "c").unwrap();
    let link = |to: &str, name: &str| symlink(to, code.join("public").join(name)).unwrap();
    link("a.txt", "inside");
    link("sub", "inside-folder");
    link("../a.txt", "sub/up-but-inside");
    link("../secret", "outside");
    link("..", "outside-folder");
    link("../public/a.txt", "out-and-in-again");
    link("/etc/passwd", "absolute");
    link("/", "root");
    link(
        code.join("public/a.txt").to_str().unwrap(),
        "absolute-inside",
    );
    link("/proc/self/root", "magic");
    link("/proc/self/cwd", "magic-cwd");
    link("loop", "loop");
    link("outside", "twice");
    link("nowhere", "dangling");
    dir
}

fn root(code: &Path, resolver: Resolver) -> Root {
    Root::new(code, Path::new("public"), resolver, 1000)
}

/// As the web server does it: without waiting first.
fn find(root: &Root, path: &str) -> Result<Found, Errno> {
    match root.find(Path::new(path), 0, Wait::No) {
        Err(Errno::AGAIN) => root.find(Path::new(path), 0, Wait::Yes),
        result => result,
    }
}

#[test]
fn the_kernel_is_asked_once() {
    // What the machine can do is not for this test to say; whatever it is, it works.
    let code = code_base();
    let found = find(&root(code.path(), Resolver::probe()), "a.txt");
    assert!(matches!(found, Ok(Found::File(..))));
}

#[test]
fn files_beneath_are_found() {
    let code = code_base();
    for way in WAYS {
        let root = root(code.path(), way);
        for path in [
            "a.txt",
            "sub/b.txt",
            "sub/deep/c.txt",
            "./sub/./b.txt",
            "sub//b.txt",
        ] {
            let Ok(Found::File(fd, stat)) = find(&root, path) else {
                panic!("{way:?} {path}");
            };
            assert_eq!(stat.st_size, 1);
            assert_eq!(Identity::of_open(&fd).unwrap(), Identity::of(&stat));
        }
        for path in ["", ".", "sub", "sub/", "sub/deep"] {
            assert!(
                matches!(find(&root, path), Ok(Found::Folder)),
                "{way:?} {path}"
            );
        }
        for path in ["b.txt", "sub/a.txt", "nowhere/a.txt", "dangling"] {
            let errno = find(&root, path).unwrap_err();
            let walked = way == Resolver::Walk && errno == Errno::LOOP;
            assert!(errno == Errno::NOENT || walked, "{way:?} {path}");
        }
        assert_eq!(
            find(&root, "a.txt/x").unwrap_err(),
            Errno::NOTDIR,
            "{way:?}"
        );
    }
}

#[test]
fn nothing_outside_is_ever_opened() {
    let code = code_base();
    for way in WAYS {
        let root = root(code.path(), way);
        for path in [
            "..",
            "../secret",
            "sub/../../secret",
            "sub/deep/../../../secret",
            "/etc/passwd",
            "//etc/passwd",
            "../public/a.txt",
            "outside",
            "outside-folder",
            "outside-folder/secret",
            "outside-folder/public/a.txt",
            "out-and-in-again",
            "absolute",
            "absolute-inside",
            "root",
            "root/etc/passwd",
            "magic",
            "magic/etc/passwd",
            "magic-cwd",
            "magic-cwd/Cargo.toml",
            "loop",
            "loop/x",
            "twice",
            "sub/../outside",
        ] {
            assert!(find(&root, path).is_err(), "{way:?} {path}");
        }
    }
}

#[test]
fn links_that_stay_beneath_are_followed_where_the_kernel_can_tell() {
    let code = code_base();
    for path in ["inside", "inside-folder/b.txt", "sub/up-but-inside"] {
        for way in WAYS {
            let found = find(&root(code.path(), way), path);
            match way {
                Resolver::Openat2 { .. } => {
                    assert!(matches!(found, Ok(Found::File(..))), "{way:?} {path}");
                }
                Resolver::Walk => assert!(found.is_err(), "{path}"),
            }
        }
    }
}

#[test]
fn what_is_no_file_is_not_found() {
    let code = code_base();
    let fifo = code.path().join("public/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
    let socket = code.path().join("public/socket");
    let _listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    for way in WAYS {
        let root = root(code.path(), way);
        // And it does not wait for a writer.
        assert_eq!(find(&root, "fifo").unwrap_err(), Errno::NOENT, "{way:?}");
        assert_eq!(find(&root, "socket").unwrap_err(), Errno::NXIO, "{way:?}");
    }
}

#[test]
fn a_folder_that_leads_outside_is_not_served() {
    let code = code_base();
    symlink("/etc", code.path().join("etc")).unwrap();
    symlink("public", code.path().join("www")).unwrap();
    for way in WAYS {
        let root = Root::new(code.path(), Path::new("etc"), way, 1000);
        assert!(find(&root, "passwd").is_err(), "{way:?}");
        let root = Root::new(code.path(), Path::new("www"), way, 1000);
        assert_eq!(
            find(&root, "a.txt").is_ok(),
            way != Resolver::Walk,
            "{way:?}"
        );
    }
}

#[test]
fn a_folder_put_in_place_of_another_is_found() {
    let code = code_base();
    let public = code.path().join("public");
    let root = root(code.path(), Resolver::probe());
    let at = |now_ms| root.find(Path::new("a.txt"), now_ms, Wait::Yes);
    assert!(at(0).is_ok());

    fs::rename(&public, code.path().join("old")).unwrap();
    fs::create_dir(&public).unwrap();
    assert!(at(999).is_ok(), "still the folder that was opened");
    assert_eq!(at(1000).unwrap_err(), Errno::NOENT);
    fs::write(public.join("a.txt"), "new").unwrap();
    assert!(at(1001).is_ok());

    fs::remove_dir_all(&public).unwrap();
    assert_eq!(at(5000).unwrap_err(), Errno::NOENT);
    fs::create_dir(&public).unwrap();
    fs::write(public.join("a.txt"), "newer").unwrap();
    assert!(
        at(5000).is_ok(),
        "a folder that was missing is looked for at once"
    );
}

#[test]
fn paths_of_the_config() {
    for path in ["", ".", "public", "public/assets", "./public"] {
        assert!(is_beneath(Path::new(path)), "{path}");
    }
    for path in ["/srv", "..", "public/..", "a/../../b"] {
        assert!(!is_beneath(Path::new(path)), "{path}");
    }
}
