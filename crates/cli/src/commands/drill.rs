//! `trilith drill`.

use crate::drill::{self, Arguments};
use crate::failure::Outcome;

pub fn run(args: &Arguments) -> Outcome {
    drill::run(args)
}
