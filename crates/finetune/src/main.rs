//! `finetune`: see the library.
#![recursion_limit = "256"]

use std::process::ExitCode;

use clap::Parser;
use finetune::{FinetuneProgram, finetune};
use train::command::exit;

fn main() -> ExitCode {
    let program = FinetuneProgram::parse();
    exit(finetune(&program.arguments))
}
