//! A demo that is started on other addresses than the last time.
//!
//! The servers of a cluster know each other by the addresses in its store. When all of them move at
//! once, nobody is left to tell the others, and no majority ever comes together. Real clusters move
//! one server at a time; a demo forgets what its servers agreed on, and they begin anew.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use trilith_config::Config;

use super::CONFIG_FILE;
use crate::config_file;
use crate::failure::{Outcome, at};
use crate::terminal;

/// The cluster store, in a server's state folder.
const STORE: &str = "cluster";
const ASIDE: &str = "cluster.before-move";

/// The config of the last start, if there was one.
pub fn last_time(state: &Path) -> Option<Config> {
    let path = state.join(CONFIG_FILE);
    let loaded = path.exists().then(|| config_file::parse(&path).ok())??;
    loaded.ok().map(|loaded| loaded.config)
}

/// Sets the stores of all servers aside when the addresses differ.
pub fn set_stores_aside(before: &Config, now: &Config) -> Outcome {
    if !moved(before, now) {
        return Ok(());
    }
    let mut found = false;
    for server in &now.servers {
        let state = now.state_dir(&server.name);
        let (store, aside) = (state.join(STORE), state.join(ASIDE));
        if store.is_dir() {
            if aside.is_dir() {
                fs::remove_dir_all(&aside).map_err(at(&aside))?;
            }
            fs::rename(&store, &aside).map_err(at(&store))?;
            found = true;
        }
    }
    if found {
        terminal::say(&format!(
            "the servers have other addresses than the last time: what they had agreed on is set \
             aside ({ASIDE})"
        ));
    }
    Ok(())
}

/// Whether a server is elsewhere. Servers that are new or gone are the cluster's own business.
fn moved(before: &Config, now: &Config) -> bool {
    let address = |config: &Config, server: &trilith_config::Server| {
        SocketAddr::new(server.address, config.ports.cluster)
    };
    now.servers.iter().any(|server| {
        let old = before.server(&server.name);
        old.is_some_and(|old| address(before, old) != address(now, server))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(state: &Path, network: &str, port: u16) -> Config {
        let text = format!(
            "[cluster]\nname = \"demo\"\ndata = {:?}\n[ports]\ncluster = {port}\n\
             [[server]]\nname = \"one\"\naddress = \"{network}.1\"\n\
             [[server]]\nname = \"two\"\naddress = \"{network}.2\"\n\
             [[server]]\nname = \"three\"\naddress = \"{network}.3\"\n\
             [[site]]\nhost = \"foobar.com\"\ntls = \"off\"\n\
             [[site.route]]\npath = \"/*\"\nrespond = {{ status = 200, body = \"\" }}\n",
            state.display().to_string()
        );
        Config::parse("trilith.toml", text, Path::new("/"))
            .unwrap_or_else(|d| panic!("{}", d.render(false)))
            .config
    }

    #[test]
    fn stores_are_set_aside_when_addresses_change() {
        let dir = tempfile::tempdir().unwrap();
        let here = config(dir.path(), "127.0.90", 7400);
        let store = dir.path().join("two").join(STORE);
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("store.redb"), "x").unwrap();
        set_stores_aside(&here, &here).unwrap();
        assert!(store.exists());
        for (network, port) in [("127.0.91", 7400), ("127.0.90", 17400)] {
            fs::create_dir_all(&store).unwrap();
            set_stores_aside(&here, &config(dir.path(), network, port)).unwrap();
            assert!(!store.exists());
            assert!(dir.path().join("two").join(ASIDE).exists());
        }
    }
}
