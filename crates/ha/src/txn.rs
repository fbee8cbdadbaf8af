//! The store's transactions behind the steps.

use trilith_base::ServerName;
use trilith_consensus::{Condition, Epoch, Revision, Txn, Write};

use crate::policy::Policy;
use crate::record::{
    ClusterRecord, Record, Report, Request, Restart, cluster_key, encode, ended_key, lease_key,
    paused_key, record_key, reinit_key, report_key, request_key, restart_key,
};

/// An entry to be written over the one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    pub value: T,
    /// Of the entry that it replaces; `None`: there was none.
    pub over: Option<Revision>,
}

/// Takes the lease, if everything that spoke for it is still so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeLease {
    /// The record of the new term.
    pub record: Record,
    /// Of the record read; `None`: there was none.
    pub over: Option<Revision>,
    /// The reports that were counted.
    pub reports: Vec<(ServerName, Revision)>,
    /// The operator's request that this fulfils.
    pub fulfils: Option<Revision>,
    /// Whether the record named this server as the primary before: that is no failover, and may be done
    /// while failover is paused.
    pub again: bool,
}

impl TakeLease {
    pub fn txn(&self, policy: &Policy) -> Txn {
        let mut txn = Txn::new().when(unchanged_record(self.over));
        if !self.again {
            txn = txn.when(Condition::Absent { key: paused_key() });
        }
        for (server, version) in &self.reports {
            txn = txn.when(Condition::Unchanged {
                key: report_key(server),
                version: *version,
            });
        }
        let mut txn = txn
            .then(Write::Grant {
                lease: lease_key(),
                holder: policy.me.clone(),
                ttl: policy.ttl,
            })
            .then(put_record(&self.record));
        if let Some(version) = self.fulfils {
            txn = forget_request(txn, version);
        }
        txn
    }
}

/// What becomes of the mark of a server that is to be restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartMove {
    /// The primary lets that replica restart now.
    Turn {
        server: ServerName,
        /// Of the mark read.
        over: Revision,
        term: u64,
        epoch: Epoch,
    },
    /// PostgreSQL of this server does not run, and is about to be started. `over`: of its mark.
    Begun { over: Revision },
    /// It runs again, or there is no such server any more.
    Done { server: ServerName, over: Revision },
    /// The primary is to be restarted, and hands over for that.
    HandOver {
        to: ServerName,
        term: u64,
        /// Of the record read.
        record: Revision,
        epoch: Epoch,
    },
}

impl RestartMove {
    /// `me`: the server whose step it is.
    pub fn txn(&self, me: &ServerName) -> Txn {
        let marked = |server: &ServerName, version: Revision| {
            Txn::new().when(Condition::Unchanged {
                key: restart_key(server),
                version,
            })
        };
        let put = |server: &ServerName, restart: Restart| Write::Put {
            key: restart_key(server),
            value: encode(&restart),
        };
        match self {
            Self::Turn {
                server,
                over,
                term,
                epoch,
            } => marked(server, *over)
                .when(held(*epoch))
                .then(put(server, Restart::Turn { term: *term })),
            Self::Begun { over } => marked(me, *over).then(put(me, Restart::Begun)),
            Self::Done { server, over } => marked(server, *over).then(Write::Delete {
                key: restart_key(server),
            }),
            Self::HandOver {
                to,
                term,
                record,
                epoch,
            } => {
                let to = Some(to.clone());
                request(&Request::Switchover { to, term: *term })
                    .when(held(*epoch))
                    .when(unchanged_record(Some(*record)))
                    .when(Condition::Absent { key: paused_key() })
            }
        }
    }
}

/// Writes the record, if this server still holds the lease.
pub fn write_record(written: &Written<Record>, epoch: Epoch) -> Txn {
    Txn::new()
        .when(held(epoch))
        .when(unchanged_record(written.over))
        .then(put_record(&written.value))
}

/// Gives the lease back; with a record, what the next primary needs to know. `over`: of the record read,
/// also where it stays as it is: writing that anew makes sure that this one is never done later.
/// `request`: fulfilled by it.
pub fn give_up(
    record: Option<&Record>,
    over: Option<Revision>,
    epoch: Epoch,
    request: Option<Revision>,
) -> Txn {
    let mut txn = Txn::new().when(unchanged_record(over)).then(Write::Revoke {
        lease: lease_key(),
        epoch,
    });
    if let Some(record) = record {
        txn = txn.then(put_record(record));
    }
    match request {
        Some(version) => forget_request(txn, version),
        None => txn,
    }
}

/// Which database this is. Once.
pub fn found(system_id: u64, epoch: Epoch) -> Txn {
    Txn::new()
        .when(held(epoch))
        .when(Condition::Absent { key: cluster_key() })
        .then(Write::Put {
            key: cluster_key(),
            value: encode(&ClusterRecord { system_id }),
        })
}

/// A report takes the place of the last one, whatever that was: nobody else writes it.
pub fn report(me: &ServerName, report: &Report) -> Txn {
    Txn::new().then(Write::Put {
        key: report_key(me),
        value: encode(report),
    })
}

/// An operator's request, if there is none.
pub fn request(request: &crate::record::Request) -> Txn {
    Txn::new()
        .when(Condition::Absent { key: request_key() })
        .then(Write::Put {
            key: request_key(),
            value: encode(request),
        })
}

/// The request is over.
pub fn end_request(version: Revision) -> Txn {
    forget_request(Txn::new(), version)
}

/// The request cannot be fulfilled. Whoever asked reads why.
pub fn give_up_request(version: Revision, why: &str) -> Txn {
    let ended = crate::operator::Ended {
        request: version.0,
        why: why.to_owned(),
    };
    end_request(version).then(Write::Put {
        key: ended_key(),
        value: encode(&ended),
    })
}

/// The request to copy anew is over.
pub fn end_reinit(me: &ServerName) -> Txn {
    Txn::new().then(Write::Delete {
        key: reinit_key(me),
    })
}

fn forget_request(txn: Txn, version: Revision) -> Txn {
    txn.when(Condition::Unchanged {
        key: request_key(),
        version,
    })
    .then(Write::Delete { key: request_key() })
}

fn held(epoch: Epoch) -> Condition {
    Condition::Held {
        lease: lease_key(),
        epoch,
    }
}

fn unchanged_record(over: Option<Revision>) -> Condition {
    let key = record_key();
    match over {
        Some(version) => Condition::Unchanged { key, version },
        None => Condition::Absent { key },
    }
}

fn put_record(record: &Record) -> Write {
    Write::Put {
        key: record_key(),
        value: encode(record),
    }
}

#[cfg(test)]
mod tests;
