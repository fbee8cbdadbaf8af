//! Its commands and flags.

use clap::{Args as ClapArgs, Subcommand};

use crate::args::Where;

/// The database: who is the primary, switchover, failover, psql.
#[derive(Debug, ClapArgs)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Servers, roles, positions, who has every write, and what each server is about to do.
    ///
    /// Exit code 3 when there is no primary, a server is missing, or a person must act.
    Status {
        #[command(flatten)]
        place: Where,
        /// JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Make another server the primary, in good order: nothing is lost, sessions end.
    ///
    /// Waits until it is done. Exit code 1 when it was given up: then all is as it was before.
    Switchover {
        /// The next primary [default: the first server that has every write].
        #[arg(long, value_name = "SERVER")]
        to: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Make that server the primary although the present one cannot hand over.
    Failover {
        /// The next primary.
        #[arg(long, value_name = "SERVER")]
        to: String,
        /// Even if acknowledged writes may be missing there: they are lost then.
        #[arg(long)]
        accept_loss: bool,
        #[command(flatten)]
        how: How,
    },
    /// Let a replica set its data aside and copy the primary's.
    Reinit {
        #[arg(value_name = "SERVER")]
        server: String,
        #[command(flatten)]
        how: How,
    },
    /// Restart PostgreSQL, on one server after the other: replicas first, then the primary hands over.
    ///
    /// Waits until all are done, and can be left with Ctrl-C: it goes on without.
    Restart {
        /// Only there [default: on all database servers].
        #[arg(value_name = "SERVER")]
        servers: Vec<String>,
        /// Only where settings wait for a restart.
        #[arg(long, conflicts_with = "servers")]
        pending: bool,
        #[command(flatten)]
        how: How,
    },
    /// No other server takes over until `resume`. A primary that loses its lease stops all the same.
    Pause {
        #[command(flatten)]
        how: How,
    },
    /// Another server takes over again when the primary fails.
    Resume {
        #[command(flatten)]
        how: How,
    },
    Psql(Psql),
    Url(Url),
}

#[derive(Clone, Debug, ClapArgs)]
pub struct How {
    #[command(flatten)]
    pub place: Where,
    /// Only say what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// JSON instead of a sentence.
    #[arg(long)]
    pub json: bool,
}

/// psql at the primary, through this server's sql entry, as the apps' user.
#[derive(Debug, ClapArgs)]
pub struct Psql {
    #[command(flatten)]
    pub place: Where,
    /// At this server's own PostgreSQL, as its superuser, over the local socket.
    #[arg(long)]
    pub admin: bool,
    /// For psql, after `--`: `trilith db psql -- -c 'select 1'`.
    #[arg(value_name = "ARGS", last = true)]
    pub rest: Vec<String>,
}

/// The connection URL of a user, password included, through this server's sql entry.
#[derive(Debug, ClapArgs)]
pub struct Url {
    #[command(flatten)]
    pub place: Where,
    /// One of `database.users` [default: the apps' user].
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// [default: the apps' database].
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// To a replica, for reading alone.
    #[arg(long)]
    pub replica: bool,
}
