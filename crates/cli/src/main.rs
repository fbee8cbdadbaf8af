//! Purpose: the `trilith` command: reads the command line, calls what does the work, shows the
//!   result.
//! Box in the picture: none; it starts servers and asks them.
//! Invariants: only this crate writes to stdout; data goes to stdout, everything else to stderr;
//!   exit codes are 0 done, 1 failed, 2 bad usage or config, 3 unhealthy; every error says what to
//!   type next.
//! Start reading at: `args.rs` (all commands), then `commands.rs`.
//! Tested by: `tests/cli.rs` (golden files), the `tests` module of each file, `e2e`.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod commands;
mod config_file;
mod demo;
mod drill;
mod failure;
mod http;
mod lab;
mod reach;
mod render;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
