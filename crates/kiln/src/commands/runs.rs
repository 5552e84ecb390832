//! `kiln runs`: the finished and unfinished runs side by side.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use train::command::{Failure, log_warnings_to_stderr, print, print_json};
use train::run::record::{ListedRun, RunRecord, RunResult, RunStatus, list};

use crate::table::table;

/// Flags of `kiln runs`.
#[derive(Args, Debug)]
pub(crate) struct RunsArguments {
    /// Folder of runs
    #[arg(long, value_name = "FOLDER", default_value = "artifacts")]
    out: PathBuf,
    /// Only these runs
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Best test accuracy first, instead of the newest run first
    #[arg(long)]
    best: bool,
    /// Print one JSON object, `{"runs": [...]}`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing<'a> {
    runs: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    folder: String,
    #[serde(flatten)]
    record: &'a RunRecord,
}

pub(crate) fn run(arguments: &RunsArguments) -> Result<ExitCode, Failure> {
    log_warnings_to_stderr();
    let mut runs = list(&arguments.out)?;
    if !arguments.names.is_empty() {
        if let Some(name) =
            arguments.names.iter().find(|name| !runs.iter().any(|run| run.record.name == **name))
        {
            return Err(Failure::failed(format!(
                "{} has no run named {name}; `kiln runs` lists them",
                arguments.out.display()
            )));
        }
        runs.retain(|run| arguments.names.contains(&run.record.name));
    }
    if arguments.best {
        runs.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a)));
    }
    if arguments.json {
        let runs = runs
            .iter()
            .map(|run| Item { folder: run.path.display().to_string(), record: &run.record })
            .collect();
        print_json(&Listing { runs })?;
    } else if runs.is_empty() {
        print(&format!("no runs in {}", arguments.out.display()))?;
    } else {
        let mut header = vec!["run", "status", "data", "backend", "seed", "epochs"];
        header.extend(FIGURES);
        let mut rows = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        rows.extend(runs.iter().map(row));
        print(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn accuracy(run: &ListedRun) -> f64 {
    run.record.result.as_ref().map_or(-1.0, |result| test_score(result).unwrap_or(-1.0))
}

/// The accuracy on the test split, or the mean average precision there, where a run was tested.
fn test_score(result: &RunResult) -> Option<f64> {
    let accuracy = result.test_accuracy?;
    Some(
        result
            .multi_label
            .as_ref()
            .map_or(accuracy, |found| found.figures.mean_average_precision.unwrap_or(0.0)),
    )
}

/// Headings of [`figures`].
pub(crate) const FIGURES: [&str; 7] =
    ["valid", "test", "macro F1", "parameters", "seconds", "images/s", "KiB"];

/// What a table of runs says of a finished one.
pub(crate) fn figures(result: &RunResult) -> [String; 7] {
    let tested = |figure: Option<String>| figure.unwrap_or_else(|| "-".to_owned());
    let valid = match &result.multi_label {
        Some(_) => format!("mAP {:.4}", result.valid_score()),
        None => format!("{:.2}%", result.valid_accuracy * 100.0),
    };
    let test = test_score(result).map(|score| match &result.multi_label {
        Some(_) => format!("mAP {score:.4}"),
        None => format!("{:.2}%", score * 100.0),
    });
    [
        valid,
        tested(test),
        tested(result.test_macro_f1.map(|f1| format!("{f1:.4}"))),
        result.parameters.to_string(),
        format!("{:.1}", result.seconds),
        format!("{:.0}", result.train_samples_per_second),
        (result.model_bytes / 1024).to_string(),
    ]
}

fn row(run: &ListedRun) -> Vec<String> {
    let record = &run.record;
    let status = match record.status {
        RunStatus::Running => "unfinished",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Failed => "failed",
        RunStatus::Finished => "finished",
    };
    let mut row = vec![
        record.name.clone(),
        status.to_owned(),
        record.dataset.clone(),
        record.backend.clone(),
        record.seed.to_string(),
    ];
    match &record.result {
        Some(result) => {
            row.push(result.epochs.to_string());
            row.extend(figures(result));
        }
        None => {
            row.extend(["-", "-", "-", "-"].map(str::to_owned));
            row.push(record.parameters.to_string());
            row.extend(["-", "-", "-"].map(str::to_owned));
        }
    }
    row
}
