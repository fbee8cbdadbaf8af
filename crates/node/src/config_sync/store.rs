//! How the versions lie in the cluster store: `config/current`, and `config/history/00000007`.

use trilith_consensus::{Condition, Key, Revision, Txn, VALUE_BYTES_MAX, View, Write};
use trilith_monitor::api::ConfigVersion;

use super::PublishError;
use crate::limits::CONFIG_VERSIONS_MAX;

const CURRENT: &str = "config/current";
const HISTORY: &str = "config/history/";

/// The cluster's version, and when it was written. `None` as well for what cannot be read: a newer
/// program wrote it, and this one goes on with what it has.
pub(super) fn current(view: &View) -> Option<(ConfigVersion, Revision)> {
    let entry = view.get(CURRENT)?;
    let version = serde_json::from_slice(&entry.value).ok()?;
    Some((version, entry.version))
}

/// The versions that are kept, the oldest first.
pub(super) fn history(view: &View) -> Vec<ConfigVersion> {
    view.prefixed(HISTORY)
        .filter_map(|(_, entry)| serde_json::from_slice(&entry.value).ok())
        .collect()
}

/// One of the versions that are kept.
pub(super) fn version(view: &View, wanted: u64) -> Result<ConfigVersion, PublishError> {
    let history = history(view);
    let known: Vec<String> = history.iter().map(|v| v.version.to_string()).collect();
    let found = history.into_iter().find(|v| v.version == wanted);
    found.ok_or_else(|| PublishError::NoSuchVersion {
        wanted,
        known: known.join(", "),
    })
}

/// Writes a version, if the current one is still as in `view`; forgets the oldest.
pub(super) fn publish(view: &View, new: &ConfigVersion) -> Result<Txn, PublishError> {
    let value =
        serde_json::to_vec(new).map_err(|error| PublishError::Refused(error.to_string()))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(PublishError::Refused(format!(
            "the file is too long for the cluster: {} KiB as it is stored, at most {} KiB",
            value.len() / 1024,
            VALUE_BYTES_MAX / 1024
        )));
    }
    let condition = match view.get(CURRENT) {
        Some(entry) => Condition::Unchanged {
            key: key(CURRENT)?,
            version: entry.version,
        },
        None => Condition::Absent { key: key(CURRENT)? },
    };
    let put = |name: &str| {
        Ok::<_, PublishError>(Write::Put {
            key: key(name)?,
            value: value.as_slice().into(),
        })
    };
    let mut txn = Txn::new()
        .when(condition)
        .then(put(CURRENT)?)
        .then(put(&name(new.version))?);
    // A few at most: each version takes one away.
    let oldest_kept = name((new.version + 1).saturating_sub(CONFIG_VERSIONS_MAX));
    let old = view.prefixed(HISTORY).map(|(key, _)| key);
    for key in old
        .filter(|key| key.as_str() < oldest_kept.as_str())
        .take(64)
    {
        txn = txn.then(Write::Delete { key: key.clone() });
    }
    Ok(txn)
}

fn name(version: u64) -> String {
    format!("{HISTORY}{version:08}")
}

fn key(name: &str) -> Result<Key, PublishError> {
    Key::new(name).map_err(|error| PublishError::Refused(error.to_string()))
}
