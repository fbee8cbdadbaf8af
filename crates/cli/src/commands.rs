//! One module per command.

mod check;
pub mod config;
pub mod db;
mod drain;
mod drill;
mod explain;
mod init;
mod join;
pub mod reload;
mod run;
mod status;
mod token;
mod version;
mod vip;

use crate::args::{Args, Command, DemoCommand, Guard};
use crate::demo;
use crate::failure::{Failure, Outcome};

pub use status::{ask_cluster, show_forever};

fn guard(args: &Guard) -> std::io::Result<()> {
    match (&args.postgres, &args.fifo) {
        (Some(data_dir), Some(fifo)) => trilith_node::database_guard::run(data_dir, fifo),
        _ => trilith_node::guard::run(&args.addresses),
    }
}

pub fn run(args: Args) -> Outcome {
    match args.command {
        Command::Demo(args) => match args.command {
            Some(DemoCommand::Stop { dir }) => demo::stop(&dir),
            None => demo::start(args.start),
        },
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(&args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Db(args) => db::run(&args),
        Command::Vip(args) => vip::run(args.command),
        Command::Drill(args) => drill::run(&args),
        Command::Drain(args) => drain::run(&args, true),
        Command::Undrain(args) => drain::run(&args, false),
        Command::Guard(args) => guard(&args).map_err(Failure::failed),
        Command::Token(args) => token::run(&args),
        Command::Join(args) => join::run(&args),
        Command::Version(args) => version::run(&args),
    }
}
