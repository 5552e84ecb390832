//! `kiln`: every command of the product.
#![recursion_limit = "256"]

mod bench;
mod data_command;
mod evaluate;
mod runs;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use train::command::exit;

/// Train, evaluate and fine-tune image classifiers.
#[derive(Parser, Debug)]
#[command(name = "kiln", version, about)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Train a classifier from scratch, or go on with a run
    Train(train::arguments::TrainArguments),
    /// Fine-tune a trained model on other labelled images
    Finetune(finetune::FinetuneArguments),
    /// Test a model on labelled images
    Evaluate(evaluate::EvaluateArguments),
    /// Show, fetch and check data sets
    Data(data_command::DataArguments),
    /// Measure training and inference: samples per second, latency, memory
    Bench(bench::BenchArguments),
    /// List and compare runs
    Runs(runs::RunsArguments),
}

fn main() -> ExitCode {
    exit(match Program::parse().command {
        Command::Train(arguments) => train::command::train(&arguments),
        Command::Finetune(arguments) => finetune::finetune(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Data(arguments) => data_command::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments),
    })
}
