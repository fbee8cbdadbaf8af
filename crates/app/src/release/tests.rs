use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::*;
use crate::limits::{RELEASE_DEPTH_MAX, RELEASES_KEPT};

struct World {
    root: tempfile::TempDir,
    releases: Releases,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("code")).unwrap();
        let releases = Releases::new(root.path().join("state/releases"));
        let world = Self { root, releases };
        world.write("Procfile", "web: ./bin/server\n");
        world.write("bin/server", "#!/bin/sh\n");
        world.mode("bin/server", 0o700);
        world
    }

    fn source(&self) -> PathBuf {
        self.root.path().join("code")
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.source().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        symlink(target, self.source().join(path)).unwrap();
    }

    fn install(&self) -> Release {
        self.releases.install(&self.source()).unwrap()
    }

    fn refuse(&self) -> ReleaseError {
        self.releases.install(&self.source()).unwrap_err()
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_release_is_a_copy_that_everybody_can_read() {
    let world = World::new();
    world.write("public/assets/site.css", "body {}");
    world.mode("public/assets", 0o700);
    world.mode("public/assets/site.css", 0o600);
    world.link("public/style.css", "assets/site.css");
    let release = world.install();
    assert_eq!(release.id.as_str().len(), ReleaseId::LENGTH);
    assert_eq!(
        ReleaseId::parse(release.id.as_str()),
        Some(release.id.clone())
    );
    assert_eq!(
        fs::read_to_string(release.dir.join("public/style.css")).unwrap(),
        "body {}"
    );
    assert_eq!(mode(&release.dir), 0o755);
    assert_eq!(mode(&release.dir.join("public/assets")), 0o755);
    assert_eq!(mode(&release.dir.join("public/assets/site.css")), 0o644);
    assert_eq!(mode(&release.dir.join("bin/server")), 0o755);
    assert_eq!(world.releases.current(), Some(release));
}

#[test]
fn the_id_depends_on_content_alone() {
    let one = World::new();
    let other = World::new();
    other.mode("bin/server", 0o755);
    other.mode("Procfile", 0o600);
    // Made in another order, and of another age.
    fs::remove_file(other.source().join("Procfile")).unwrap();
    other.write("Procfile", "web: ./bin/server\n");
    assert_eq!(one.install().id, other.install().id);
    assert_eq!(one.install().id, one.install().id);

    let mut seen = vec![one.install().id];
    let mut changed = |what: &str| {
        let id = one.install().id;
        assert!(!seen.contains(&id), "{what}");
        seen.push(id);
    };
    one.write("Procfile", "web: ./bin/server \n");
    changed("content");
    one.mode("Procfile", 0o744);
    changed("executable");
    one.write("empty", "");
    changed("another file");
    fs::remove_file(one.source().join("empty")).unwrap();
    fs::create_dir(one.source().join("empty")).unwrap();
    changed("a folder instead");
    one.link("link", "Procfile");
    changed("link");
    fs::remove_file(one.source().join("link")).unwrap();
    one.link("link", "empty");
    changed("link to elsewhere");
}

#[test]
fn leaves_out_what_is_no_part_of_it() {
    let world = World::new();
    let before = world.install().id;
    world.write(".git/config", "x");
    world.write("lib/.git/config", "x");
    fs::remove_dir_all(world.source().join("lib/.git")).unwrap();
    fs::remove_dir(world.source().join("lib")).unwrap();
    world.write("upload.tmp", "x");
    let _socket = std::os::unix::net::UnixListener::bind(world.source().join("s")).unwrap();
    let release = world.install();
    assert_eq!(release.id, before);
    assert!(!release.dir.join(".git").exists());
}

#[test]
fn links_must_stay_inside() {
    for (path, target) in [
        ("a", "/etc/passwd"),
        ("a", ".."),
        ("a", "../code/Procfile"),
        ("bin/a", "../../x"),
        ("a", "bin/../../x"),
        ("a", "bin/../Procfile"),
    ] {
        let world = World::new();
        world.link(path, target);
        let error = world.refuse();
        assert!(
            matches!(error, ReleaseError::LinkOutside { .. }),
            "{path} -> {target}: {error}"
        );
    }
    let world = World::new();
    world.link("a", "bin");
    world.link("b", "./bin/server");
    world.link("bin/c", "../Procfile");
    world.link("dangling", "nothing-here");
    world.install();
}

#[test]
fn a_damaged_release_is_made_anew() {
    let world = World::new();
    let release = world.install();
    let file = release.dir.join("Procfile");
    fs::write(&file, "").unwrap();
    assert_eq!(world.install(), release);
    assert_eq!(fs::read_to_string(&file).unwrap(), "web: ./bin/server\n");
    fs::remove_file(&file).unwrap();
    world.install();
    assert!(file.exists());
    fs::set_permissions(
        release.dir.join("bin/server"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    world.install();
    assert_eq!(mode(&release.dir.join("bin/server")), 0o755);
}

#[test]
fn a_whole_release_is_used_as_it_is() {
    let world = World::new();
    let release = world.install();
    let inode = |path: &str| fs::metadata(release.dir.join(path)).unwrap().ino();
    let before = inode("Procfile");
    fs::create_dir(release.dir.join("__pycache__")).unwrap();
    world.install();
    assert_eq!(inode("Procfile"), before);
}

#[test]
fn an_interrupted_copy_is_swept_away() {
    let world = World::new();
    let release = world.install();
    let left = world.root.path().join("state/releases/.new-0123456789ab");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("x"), "x").unwrap();
    let same = world
        .root
        .path()
        .join(format!("state/releases/.new-{}", release.id));
    fs::create_dir(&same).unwrap();
    fs::remove_dir_all(&release.dir).unwrap();
    world.install();
    assert!(!left.exists() && !same.exists());
}

#[test]
fn keeps_five() {
    let world = World::new();
    let mut all = Vec::new();
    for number in 0..RELEASES_KEPT + 3 {
        world.write("number", &number.to_string());
        let release = world.install();
        // One second apart, whatever the resolution of the file system.
        let used =
            SystemTime::now() - Duration::from_secs(1_000) + Duration::from_secs(number as u64);
        fs::File::open(&release.dir)
            .unwrap()
            .set_modified(used)
            .unwrap();
        all.push(release);
    }
    // The oldest is still running, the second oldest is current again.
    world.write("number", "1");
    world.install();
    fs::File::open(&all[1].dir)
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH)
        .unwrap();
    world.releases.remove_old(&[all[0].id.clone()]).unwrap();
    let kept: BTreeSet<ReleaseId> = world
        .releases
        .list()
        .unwrap()
        .into_iter()
        .map(|release| release.id)
        .collect();
    let expected: BTreeSet<ReleaseId> = [0, 1, 3, 4, 5, 6, 7]
        .iter()
        .map(|&number: &usize| all[number].id.clone())
        .collect();
    assert_eq!(kept, expected);
}

#[test]
fn says_what_cannot_be_a_release() {
    let world = World::new();
    let error = world
        .releases
        .install(&world.source().join("nowhere"))
        .unwrap_err();
    assert!(matches!(error, ReleaseError::NoCodeBase { .. }));

    let deep = "d/".repeat(RELEASE_DEPTH_MAX + 1);
    world.write(&format!("{deep}file"), "");
    assert!(matches!(world.refuse(), ReleaseError::TooDeep { .. }));

    let world = World::new();
    let big = fs::File::create(world.source().join("dump.sql")).unwrap();
    big.set_len(crate::limits::RELEASE_BYTES_MAX + 1).unwrap();
    let error = world.refuse();
    assert!(matches!(error, ReleaseError::TooLarge { .. }), "{error}");
    assert!(world.releases.current().is_none());
}
