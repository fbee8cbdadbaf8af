//! Purpose: threads, sockets and shutdown for the data plane: per-core workers, listeners, drain.
//! Box in the picture: under every arrow that is a socket.
//! Invariants: a connection lives and dies on the worker that accepted it; nothing here knows a protocol.
//! Start reading at: [`Workers`], [`accept_loop`], [`Drain`].
//! Tested by: the `tests` module of each file.
#![forbid(unsafe_code)]

mod accept;
mod drain;
mod listen;
mod workers;

pub use accept::{ConnectionLimit, ConnectionPermit, accept_loop};
pub use drain::{Drain, DrainTrigger, drain_pair};
pub use listen::{Whose, listen, listen_each, listen_each_of, stop_listening};
pub use workers::Workers;
