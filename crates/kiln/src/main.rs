//! `kiln`: every command of the product.
#![recursion_limit = "256"]

mod answer;
mod commands;
mod pictures;
mod serve;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use train::command::{exit, parsed};

use self::commands::{
    bench, compare, data, evaluate, explain, export, federated, lr_find, models, predict, runs, sweep,
};

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
    Train(train::config::arguments::TrainArguments),
    /// Fine-tune a trained model on other labelled images
    Finetune(finetune::FinetuneArguments),
    /// Test a model on labelled images
    Evaluate(evaluate::EvaluateArguments),
    /// Say what is on pictures, or read the digits on them
    Predict(predict::PredictArguments),
    /// Show why a model answers as it does
    Explain(explain::ExplainArguments),
    /// Show, fetch and check data sets
    Data(data::DataArguments),
    /// List the networks, with parameters and multiply-accumulates
    Models(models::ModelsArguments),
    /// Put finished runs side by side, with a paired test of their answers
    Compare(compare::CompareArguments),
    /// Train many variants, judge them on validation images, and write the best one's configuration
    Sweep(sweep::SweepArguments),
    /// Find a learning rate: raise it step by step and watch the loss
    LrFind(lr_find::LrFindArguments),
    /// Federated averaging: nodes that share weights, not images
    Federated(federated::FederatedArguments),
    /// Measure training and inference: samples per second, latency, memory
    Bench(bench::BenchArguments),
    /// List runs
    Runs(runs::RunsArguments),
    /// Write a model in a format of others
    Export(export::ExportArguments),
    /// Answer requests over HTTP with a trained model
    Serve(serve::ServeArguments),
}

fn main() -> ExitCode {
    train::start::model_io::provide_reference(finetune::REFERENCE_MODEL);
    let program = parsed::<Program>();
    // Before anything else: the operators would take a slower way without a word.
    if let Err(error) = model::ops::path_by_default() {
        return exit(Err(error.into()));
    }
    exit(match program.command {
        Command::Train(arguments) => train::command::train(&arguments),
        Command::Finetune(arguments) => finetune::finetune(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Predict(arguments) => predict::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Data(arguments) => data::run(&arguments),
        Command::Models(arguments) => models::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments),
        Command::LrFind(arguments) => lr_find::run(&arguments),
        Command::Federated(arguments) => federated::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
    })
}
