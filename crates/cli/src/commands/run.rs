//! `trilith run`.

use trilith_node::{LogFormat, LogOptions};

use crate::args::{self, Run};
use crate::config_file::{self, Warnings};
use crate::failure::{Failure, Outcome};
use crate::terminal;

pub fn run(args: Run) -> Outcome {
    if args.new_session {
        // Fails when we lead a process group, and then the terminal's signals do not reach us
        // either.
        let _ = nix::unistd::setsid();
    }
    let log = LogOptions {
        level: args.log,
        format: match args.log_format {
            args::LogFormat::Text => LogFormat::Human,
            args::LogFormat::Json => LogFormat::Json,
        },
        colour: terminal::stderr_colour(),
    };
    trilith_node::init_logging(&log).map_err(Failure::usage)?;
    let mut file = config_file::load_file(&args.config, Warnings::Show)?;
    file.publish = args.use_file;
    trilith_node::run_blocking(file, &args.server).map_err(|error| {
        let usage = error.is_usage();
        let next = error.next_command(&args.config);
        let failure = if usage {
            Failure::usage(error)
        } else {
            Failure::failed(error)
        };
        match next {
            Some(command) => failure.next(command),
            None => failure,
        }
    })
}
