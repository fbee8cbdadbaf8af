//! What an instance finds in its environment: a clean one, never this process's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// Kept from our own environment: what says where programs are and how people write. Anything else
/// may hold a secret of ours, or change an app's behaviour between two servers.
const KEPT: [&str; 4] = ["PATH", "LANG", "LANGUAGE", "TZ"];
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The values of the contract (DESIGN section 6) that do not come from the configuration.
pub(crate) struct Contract<'a> {
    pub server: &'a str,
    pub instance: &'a str,
    pub release: &'a str,
    /// `HOST` and `PORT`; without a port only `HOST` means nothing, so neither is set.
    pub listen: Option<SocketAddr>,
    pub tmp_dir: &'a Path,
    /// The user's name, when it is another than ours.
    pub user: Option<&'a str>,
}

/// This process's own environment, as far as it is text.
pub(crate) fn ours() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// The whole environment of a process. Later wins: kept, `base`, `own` (the app's), contract.
pub(crate) fn build(
    ours: impl IntoIterator<Item = (String, String)>,
    base: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
    contract: &Contract<'_>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH_DEFAULT.to_owned())]);
    let mut own_user = None;
    for (key, value) in ours {
        if key == "USER" || key == "LOGNAME" {
            own_user = Some(value);
        } else if KEPT.contains(&key.as_str()) || key.starts_with("LC_") {
            env.insert(key, value);
        }
    }
    let tmp_dir = contract.tmp_dir.to_string_lossy().into_owned();
    env.insert("HOME".to_owned(), tmp_dir.clone());
    if let Some(user) = contract.user.map(str::to_owned).or(own_user) {
        env.insert("USER".to_owned(), user.clone());
        env.insert("LOGNAME".to_owned(), user);
    }
    env.extend(
        base.iter()
            .chain(own)
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    let mut set = |key: &str, value: String| env.insert(key.to_owned(), value);
    set("SERVER", contract.server.to_owned());
    set("INSTANCE", contract.instance.to_owned());
    set("RELEASE", contract.release.to_owned());
    set("TMPDIR", tmp_dir);
    if let Some(listen) = contract.listen {
        set("HOST", listen.ip().to_string());
        set("PORT", listen.port().to_string());
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn leaks_nothing_and_keeps_its_promises() {
        let ours = map(&[
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("LC_ALL", "C.UTF-8"),
            ("LD_PRELOAD", "x"),
            ("PATH", "/opt/bin:/bin"),
            ("PORT", "1"),
            ("TZ", "UTC"),
            ("USER", "root"),
        ]);
        let base = map(&[("DATABASE_URL", "postgresql://a"), ("COLOUR", "red")]);
        let own = map(&[("COLOUR", "blue"), ("PORT", "2"), ("HOME", "/srv")]);
        let contract = Contract {
            server: "one",
            instance: "web.1",
            release: "abc",
            listen: Some(SocketAddr::from(([127, 0, 1, 1], 20_001))),
            tmp_dir: Path::new("/state/tmp/web.1"),
            user: Some("nobody"),
        };
        let env = build(ours, &base, &own, &contract);
        let expected = map(&[
            ("COLOUR", "blue"),
            ("DATABASE_URL", "postgresql://a"),
            ("HOME", "/srv"),
            ("HOST", "127.0.1.1"),
            ("INSTANCE", "web.1"),
            ("LC_ALL", "C.UTF-8"),
            ("LOGNAME", "nobody"),
            ("PATH", "/opt/bin:/bin"),
            ("PORT", "20001"),
            ("RELEASE", "abc"),
            ("SERVER", "one"),
            ("TMPDIR", "/state/tmp/web.1"),
            ("TZ", "UTC"),
            ("USER", "nobody"),
        ]);
        assert_eq!(env, expected);
    }

    #[test]
    fn a_worker_has_no_port() {
        let contract = Contract {
            server: "one",
            instance: "worker.1",
            release: "abc",
            listen: None,
            tmp_dir: Path::new("/tmp"),
            user: None,
        };
        let env = build([], &map(&[]), &map(&[]), &contract);
        assert!(!env.contains_key("PORT") && !env.contains_key("HOST"));
        assert_eq!(env["PATH"], PATH_DEFAULT);
    }
}
