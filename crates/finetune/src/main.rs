//! `finetune`: see the library.
#![recursion_limit = "256"]

use std::process::ExitCode;

use finetune::{FinetuneProgram, REFERENCE_MODEL, finetune};
use train::command::{exit, parsed};

fn main() -> ExitCode {
    train::start::model_io::provide_reference(REFERENCE_MODEL);
    let program = parsed::<FinetuneProgram>();
    exit(finetune(&program.arguments))
}
