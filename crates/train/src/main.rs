//! `train`: see `train::command`.
#![recursion_limit = "256"]

use std::process::ExitCode;

use clap::Parser;
use train::command::{TrainProgram, exit, train};

fn main() -> ExitCode {
    let program = TrainProgram::parse();
    exit(train(&program.arguments))
}
