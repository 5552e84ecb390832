//! `finetune`: see the library.
#![recursion_limit = "256"]

use std::process::ExitCode;

use clap::Parser;
use finetune::{FinetuneProgram, REFERENCE_MODEL, finetune};
use train::command::exit;

fn main() -> ExitCode {
    train::model_io::provide_reference(REFERENCE_MODEL);
    let program = FinetuneProgram::parse();
    exit(finetune(&program.arguments))
}
