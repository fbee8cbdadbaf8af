//! Between the wire's types and those of `consensus`. What comes from outside is checked here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use trilith_base::ServerName;
use trilith_consensus as consensus;
use trilith_consensus::{Epoch, Key, Revision, StoreError};

use super::{
    Command, Committed, Condition, Failed, FailureKind, Node, Reply, State, StateEntry, StateLease,
    Txn, Value, Write,
};

/// A message whose parts make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {reason}")]
pub struct Malformed {
    pub reason: String,
}

impl Malformed {
    pub(crate) fn new(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}

fn key(text: &str) -> Result<Key, Malformed> {
    Key::new(text).map_err(Malformed::new)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }
}

impl TryFrom<&Value> for Arc<[u8]> {
    type Error = Malformed;

    fn try_from(value: &Value) -> Result<Self, Malformed> {
        match value {
            Value::Text(text) => Ok(text.as_bytes().into()),
            Value::Hex(text) => text
                .as_bytes()
                .chunks(2)
                .map(|pair| {
                    let digit = |at: usize| {
                        let byte = *pair.get(at)?;
                        char::from(byte).to_digit(16)
                    };
                    let byte = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low);
                    byte.and_then(|byte| u8::try_from(byte).ok())
                })
                .collect::<Option<Vec<u8>>>()
                .map(Into::into)
                .ok_or_else(|| Malformed::new("a value is not hexadecimal")),
        }
    }
}

impl From<&consensus::Command> for Command {
    fn from(command: &consensus::Command) -> Self {
        match command {
            consensus::Command::Txn(txn) => Self::Txn(txn.into()),
            consensus::Command::Expire { lease, epoch } => Self::Expire {
                lease: lease.to_string(),
                epoch: epoch.0,
                term: 0,
                node: 0,
            },
        }
    }
}

impl TryFrom<&Command> for consensus::Command {
    type Error = Malformed;

    fn try_from(command: &Command) -> Result<Self, Malformed> {
        Ok(match command {
            Command::Txn(txn) => Self::Txn(txn.try_into()?),
            Command::Expire { lease, epoch, .. } => Self::Expire {
                lease: key(lease)?,
                epoch: Epoch(*epoch),
            },
        })
    }
}

impl From<&consensus::Txn> for Txn {
    fn from(txn: &consensus::Txn) -> Self {
        Self {
            conditions: txn.conditions.iter().map(Into::into).collect(),
            writes: txn.writes.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<&Txn> for consensus::Txn {
    type Error = Malformed;

    fn try_from(txn: &Txn) -> Result<Self, Malformed> {
        Ok(Self {
            conditions: txn
                .conditions
                .iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            writes: txn
                .writes
                .iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&consensus::Condition> for Condition {
    fn from(condition: &consensus::Condition) -> Self {
        match condition {
            consensus::Condition::Absent { key } => Self::Absent {
                key: key.to_string(),
            },
            consensus::Condition::Unchanged { key, version } => Self::Unchanged {
                key: key.to_string(),
                version: version.0,
            },
            consensus::Condition::Free { lease } => Self::Free {
                lease: lease.to_string(),
            },
            consensus::Condition::Held { lease, epoch } => Self::Held {
                lease: lease.to_string(),
                epoch: epoch.0,
            },
        }
    }
}

impl TryFrom<&Condition> for consensus::Condition {
    type Error = Malformed;

    fn try_from(condition: &Condition) -> Result<Self, Malformed> {
        Ok(match condition {
            Condition::Absent { key: name } => Self::Absent { key: key(name)? },
            Condition::Unchanged { key: name, version } => Self::Unchanged {
                key: key(name)?,
                version: Revision(*version),
            },
            Condition::Free { lease } => Self::Free { lease: key(lease)? },
            Condition::Held { lease, epoch } => Self::Held {
                lease: key(lease)?,
                epoch: Epoch(*epoch),
            },
        })
    }
}

impl From<&consensus::Write> for Write {
    fn from(write: &consensus::Write) -> Self {
        match write {
            consensus::Write::Put { key, value } => Self::Put {
                key: key.to_string(),
                value: (&**value).into(),
            },
            consensus::Write::Delete { key } => Self::Delete {
                key: key.to_string(),
            },
            consensus::Write::Grant { lease, holder, ttl } => Self::Grant {
                lease: lease.to_string(),
                holder: holder.to_string(),
                ttl_ms: millis(*ttl),
            },
            consensus::Write::Revoke { lease, epoch } => Self::Revoke {
                lease: lease.to_string(),
                epoch: epoch.0,
            },
        }
    }
}

impl TryFrom<&Write> for consensus::Write {
    type Error = Malformed;

    fn try_from(write: &Write) -> Result<Self, Malformed> {
        Ok(match write {
            Write::Put { key: name, value } => Self::Put {
                key: key(name)?,
                value: value.try_into()?,
            },
            Write::Delete { key: name } => Self::Delete { key: key(name)? },
            Write::Grant {
                lease,
                holder,
                ttl_ms,
            } => Self::Grant {
                lease: key(lease)?,
                holder: ServerName::new(holder).map_err(Malformed::new)?,
                ttl: Duration::from_millis(*ttl_ms),
            },
            Write::Revoke { lease, epoch } => Self::Revoke {
                lease: key(lease)?,
                epoch: Epoch(*epoch),
            },
        })
    }
}

impl State {
    /// With everything but position and members.
    pub(crate) fn of_view(view: &consensus::View) -> Self {
        let entry = |entry: &consensus::Entry| StateEntry {
            value: (&*entry.value).into(),
            version: entry.version.0,
        };
        let lease = |lease: &consensus::Lease| StateLease {
            holder: lease.holder.to_string(),
            epoch: lease.epoch.0,
            ttl_ms: millis(lease.ttl),
        };
        Self {
            revision: view.revision.0,
            entries: (view.entries.iter())
                .map(|(key, e)| (key.to_string(), entry(e)))
                .collect(),
            leases: (view.leases.iter())
                .map(|(key, l)| (key.to_string(), lease(l)))
                .collect(),
            ..Self::default()
        }
    }

    pub(crate) fn view(&self) -> Result<consensus::View, Malformed> {
        let mut view = consensus::View {
            revision: Revision(self.revision),
            ..Default::default()
        };
        for (name, entry) in &self.entries {
            let entry = consensus::Entry {
                value: (&entry.value).try_into()?,
                version: Revision(entry.version),
            };
            view.entries.insert(key(name)?, entry);
        }
        for (name, lease) in &self.leases {
            let lease = consensus::Lease {
                holder: ServerName::new(&lease.holder).map_err(Malformed::new)?,
                epoch: Epoch(lease.epoch),
                ttl: Duration::from_millis(lease.ttl_ms),
            };
            view.leases.insert(key(name)?, lease);
        }
        Ok(view)
    }
}

impl Node {
    pub(crate) fn new(name: &ServerName, address: SocketAddr) -> Self {
        Self {
            name: name.to_string(),
            address: address.to_string(),
        }
    }

    pub(crate) fn peer(&self) -> Result<crate::Peer, Malformed> {
        Ok(crate::Peer {
            name: ServerName::new(&self.name).map_err(Malformed::new)?,
            address: self.address.parse().map_err(Malformed::new)?,
        })
    }
}

impl From<consensus::Outcome> for Committed {
    fn from(outcome: consensus::Outcome) -> Self {
        match outcome {
            consensus::Outcome::Done { revision } => Self::Done {
                revision: revision.0,
            },
            consensus::Outcome::Refused { index } => Self::Refused { index },
        }
    }
}

impl Reply {
    pub(crate) fn failed(kind: FailureKind, reason: impl ToString) -> Self {
        Self::Failed(Failed {
            kind,
            reason: reason.to_string(),
        })
    }
}

impl From<&StoreError> for Failed {
    fn from(error: &StoreError) -> Self {
        let kind = match error {
            StoreError::NoLeader { .. } => FailureKind::Retry,
            StoreError::Unknown => FailureKind::Unknown,
            StoreError::LeaseLost => FailureKind::LeaseLost,
            StoreError::TooLarge { .. } | StoreError::Invalid { .. } => FailureKind::Invalid,
            StoreError::Stopped => FailureKind::Stopped,
        };
        Self {
            kind,
            reason: error.to_string(),
        }
    }
}
