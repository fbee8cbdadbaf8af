//! `trilith init`.

use std::fs::OpenOptions;
use std::io::{self, Write};

use trilith_config::keys;

use crate::args::Init;
use crate::config_file::{self, Warnings};
use crate::failure::{Failure, Outcome, at};
use crate::terminal;

pub fn run(args: &Init) -> Outcome {
    if args.secrets {
        secrets(args)
    } else {
        template(args)
    }
}

fn template(args: &Init) -> Outcome {
    let path = &args.config;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::usage(format!(
                "{} exists already; it is left as it is",
                path.display()
            ))
            .next(format!("trilith check {}", path.display())),
            _ => at(path)(error),
        })?;
    file.write_all(keys::commented_template().as_bytes())
        .map_err(at(path))?;
    terminal::say(&format!("wrote {}", path.display()));
    terminal::say(&format!("edit it, then: trilith check {}", path.display()));
    Ok(())
}

fn secrets(args: &Init) -> Outcome {
    let config = config_file::load(&args.config, Warnings::Show)?;
    let made = trilith_node::secrets::create(&config).map_err(Failure::failed)?;
    let dir = config.cluster.secrets.display();
    if made.is_empty() {
        terminal::say(&format!(
            "{dir} has everything already; it is left as it is"
        ));
        return Ok(());
    }
    for file in made {
        terminal::say(&format!("wrote {}", file.display()));
    }
    if config.servers.len() > 1 {
        terminal::say(&format!(
            "copy {dir} to every other server before you start them"
        ));
    }
    Ok(())
}
