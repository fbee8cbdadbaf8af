//! The settings of which a replica must not have less than its primary had: with less, it refuses to start
//! (xlog.c, `CheckRequiredParameterValues`). The WAL tells replicas of a change, and each keeps in its control
//! file what counts for the WAL that it has replayed. Pure.

use crate::conf::Part;
use crate::options::Options;

/// `max_connections`, `max_worker_processes`, `max_wal_senders`, `max_prepared_transactions` and
/// `max_locks_per_transaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HotStandby(pub [u64; 5]);

/// The setting, what `pg_controldata` calls it, and PostgreSQL's default.
const SETTINGS: [(&str, &str, u64); 5] = [
    ("max_connections", "max_connections setting", 100),
    ("max_worker_processes", "max_worker_processes setting", 8),
    ("max_wal_senders", "max_wal_senders setting", 10),
    ("max_prepared_transactions", "max_prepared_xacts setting", 0),
    (
        "max_locks_per_transaction",
        "max_locks_per_xact setting",
        64,
    ),
];

impl HotStandby {
    /// `number` reads the value behind a label of `pg_controldata`.
    pub fn from_control(
        number: impl Fn(&'static str) -> Result<u64, String>,
    ) -> Result<Self, String> {
        let mut values = [0; 5];
        for (value, (_, label, _)) in values.iter_mut().zip(SETTINGS) {
            *value = number(label)?;
        }
        Ok(Self(values))
    }

    /// What a primary would be started with now.
    pub fn wanted(options: &Options) -> Self {
        let part = Part::Primary {
            synchronous_standby_names: String::new(),
        };
        let folder = std::path::Path::new("");
        Self::in_conf(&crate::conf::trilith_conf_as(options, folder, &part))
    }

    /// What a file of ours says: the last line about a setting wins. A value that cannot be read counts as
    /// the default; PostgreSQL refuses it itself.
    pub fn in_conf(conf: &str) -> Self {
        Self(SETTINGS.map(|(name, _, default)| {
            let mut values = conf.lines().filter_map(|line| {
                let (key, value) = line.split_once(" = ")?;
                (key == name).then(|| value.trim_matches('\''))
            });
            values.next_back().and_then(integer).unwrap_or(default)
        }))
    }

    /// Lines for a file that says less than `self`; empty, if it does not.
    pub fn raise(&self, conf: &str) -> String {
        let said = Self::in_conf(conf);
        let mut text = String::new();
        for ((name, ..), (floor, said)) in SETTINGS.iter().zip(self.0.iter().zip(said.0)) {
            if *floor > said {
                text.push_str(&format!("{name} = '{floor}'\n"));
            }
        }
        text
    }

    /// Whether `next` has less of something, and more of nothing.
    pub fn is_lowered_by(&self, next: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&next.0);
        self != next && pairs.all(|(now, next)| next <= now)
    }

    /// In the order of the array, for `pg_settings`.
    pub fn query() -> String {
        let values = SETTINGS.map(|(name, ..)| format!("current_setting('{name}')::int8"));
        format!("select array[{}]", values.join(", "))
    }
}

/// As PostgreSQL reads a whole number: decimal or hexadecimal (guc.c, `parse_int`).
fn integer(text: &str) -> Option<u64> {
    let text = text.trim();
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    match hex {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_and_the_higher_value_wins() {
        let conf = "max_connections = '200'\nmax_connections = '0x40'\nmax_wal_senders = '12'\n";
        assert_eq!(HotStandby::in_conf(conf).0, [64, 8, 12, 0, 64]);
        let floors = HotStandby([200, 8, 10, 4, 64]);
        let lines = floors.raise(conf);
        assert_eq!(
            lines,
            "max_connections = '200'\nmax_prepared_transactions = '4'\n"
        );
        let raised = HotStandby::in_conf(&format!("{conf}{lines}"));
        assert_eq!(raised.0, [200, 8, 12, 4, 64]);
        assert_eq!(raised.raise(conf).lines().count(), 2);
        assert_eq!(floors.raise(&format!("{conf}{lines}")), "");
    }

    #[test]
    fn lower_is_less_of_something_and_more_of_nothing() {
        let now = HotStandby([200, 8, 10, 0, 64]);
        assert!(now.is_lowered_by(&HotStandby([50, 8, 10, 0, 64])));
        assert!(!now.is_lowered_by(&now));
        assert!(!now.is_lowered_by(&HotStandby([300, 8, 10, 0, 64])));
        assert!(!now.is_lowered_by(&HotStandby([50, 16, 10, 0, 64])));
    }
}
