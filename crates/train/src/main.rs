//! `train`: see `train::command`.
#![recursion_limit = "256"]

use std::process::ExitCode;

use train::command::{TrainProgram, exit, parsed, train};

fn main() -> ExitCode {
    let program = parsed::<TrainProgram>();
    exit(train(&program.arguments))
}
