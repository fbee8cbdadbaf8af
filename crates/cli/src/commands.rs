//! One module per command.

mod check;
mod explain;
mod init;
mod run;
mod status;
mod version;

use crate::args::{Args, Command, DemoCommand};
use crate::demo;
use crate::failure::Outcome;

pub use status::show_forever;

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
        Command::Version(args) => version::run(&args),
    }
}
