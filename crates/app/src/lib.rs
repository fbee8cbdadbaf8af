//! Purpose: the application server: takes releases of a code base, runs its processes, keeps them up.
//! Box in the picture: app instances, under the web server.
//! Invariants: an instance is out of rotation before it is asked to end; a process is signalled only
//!   after it was proven to be ours; every buffer is bounded; a release never changes once in place.
//! Start reading at: [`Supervisor`], then `life.rs` (the life of one instance, without any I/O).
//! Tested by: the `tests` module of each file; `tests/` with real processes.
#![forbid(unsafe_code)]

mod access;
mod command;
mod environment;
mod error;
mod event;
mod instance;
mod leftover;
mod life;
pub mod limits;
mod log;
mod options;
mod ports;
mod probe;
mod process;
mod procfile;
mod release;
mod release_command;
mod run;
mod spawn;
mod status;
mod user;

pub use access::first_closed_folder;
pub use command::CommandLine;
pub use error::{AppError, ProcfileError, ReleaseError};
pub use leftover::end_leftovers;
pub use options::{AppKind, AppOptions, Options};
pub use procfile::{Process, Procfile};
pub use release::{Release, ReleaseId, Releases};
pub use release_command::{ReleaseCommand, ReleaseCommandError, run_release_command};
pub use run::Supervisor;
pub use status::{InstanceId, InstanceState, InstanceStatus};
pub use user::RunAs;
