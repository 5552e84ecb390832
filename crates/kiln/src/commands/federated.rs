//! `kiln federated`: federated averaging, simulated in one process.

use std::process::ExitCode;

use clap::Args;
use train::command::{Failure, print, print_json, run_context, say, set_up};
use train::config::arguments::TrainArguments;
use train::engine::interrupt::INTERRUPTED;
use tune::federated::{FederatedConfig, federated};

/// Flags of `kiln federated`.
#[derive(Args, Debug)]
pub(crate) struct FederatedArguments {
    #[command(flatten)]
    train: TrainArguments,
    /// Nodes, each with its own share of the training images
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,
    /// Rounds of averaging
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u16).range(1..=10000))]
    rounds: u16,
    /// Epochs of each node in a round
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1000))]
    local_epochs: u16,
    /// Every node's images as one batch: with --optimizer sgd and no momentum, central training in other words
    #[arg(long)]
    whole_shard: bool,
}

pub(crate) fn run(arguments: &FederatedArguments) -> Result<ExitCode, Failure> {
    let common = &arguments.train.common;
    set_up(common)?;
    let refused = [
        ("--resume", common.resume.is_some()),
        ("--folds", common.folds.is_some()),
        ("--epochs", common.epochs.is_some()),
        ("--name", common.name.is_some()),
        ("--checkpoint-every", common.checkpoint_every.is_some()),
        ("--weights", arguments.train.weights.is_some()),
    ];
    if let Some((flag, _)) = refused.into_iter().find(|(_, given)| *given) {
        return Err(Failure::usage(format!(
            "{flag} has no meaning for federated: it starts from scratch, keeps no run folder, and counts --rounds and \
             --local-epochs"
        )));
    }
    let config = arguments.train.config()?;
    if config.finetune.is_some() {
        return Err(Failure::usage("[finetune] has no meaning for federated: it starts from scratch"));
    }
    let federation = FederatedConfig {
        nodes: arguments.nodes.into(),
        rounds: arguments.rounds.into(),
        local_epochs: arguments.local_epochs.into(),
        whole_shard: arguments.whole_shard,
    };
    let Some((result, _)) = federated(&config, federation, &run_context("federated", common)?)? else {
        say("stopped; nothing was written");
        return Ok(ExitCode::from(INTERRUPTED as u8));
    };
    if common.json {
        print_json(&result)?;
    } else {
        let rounds: Vec<String> =
            result.valid_accuracy.iter().map(|accuracy| format!("{:.2}%", accuracy * 100.0)).collect();
        print(&format!(
            "validation accuracy after each round: {}\n{} nodes with {} to {} images each; the test split was not read",
            rounds.join(" "),
            arguments.nodes,
            result.shards.iter().min().copied().unwrap_or_default(),
            result.shards.iter().max().copied().unwrap_or_default(),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
