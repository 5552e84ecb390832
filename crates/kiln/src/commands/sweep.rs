//! `kiln sweep`: many trials, judged on their validation images, and the winner's configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use data::text::counted;
use train::command::{Failure, print, print_json, run_context, say, set_up};
use train::config::arguments::CommonArguments;
use train::config::arguments::ProgressMode;
use train::engine::interrupt::INTERRUPTED;
use train::run::folder::RunFolder;
use tune::sweep::{SWEEP_FILE, Sweep, SweepError, SweepFile, SweepRecord, TrialRecord, TrialStatus};

use crate::table::table;

/// Flags of `kiln sweep`.
#[derive(Args, Debug)]
pub(crate) struct SweepArguments {
    /// A configuration with a table `sweep`: strategy, trials and parameters
    #[arg(value_name = "FILE", required_unless_present = "resume", conflicts_with = "resume")]
    file: Option<PathBuf>,
    /// Go on with an unfinished sweep; what has finished is not run again
    #[arg(long, value_name = "FOLDER")]
    resume: Option<PathBuf>,
    /// With --resume: where the data is now
    #[arg(long, value_name = "NAME|FOLDER|CSV")]
    dataset: Option<String>,
    /// Any key of the configuration under the trials, for example `data.dataset=mnist`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// Folder of runs
    #[arg(long, value_name = "FOLDER", default_value = "artifacts", conflicts_with = "resume")]
    out: PathBuf,
    /// Name of the sweep's folder [default: from the data and the date]
    #[arg(long, conflicts_with = "resume")]
    name: Option<String>,
    /// Look for data files here first [default: the variable `KILN_DATA`]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// CPU threads [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// What to show of each trial [default: bar on a terminal, plain elsewhere]
    #[arg(long, value_enum)]
    progress: Option<ProgressMode>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

impl From<SweepFailure> for Failure {
    fn from(SweepFailure(error): SweepFailure) -> Self {
        if error.is_usage() { Self::usage(error) } else { Self::failed(error) }
    }
}

/// A sweep's error on its way to an exit status.
struct SweepFailure(SweepError);

pub(crate) fn run(arguments: &SweepArguments) -> Result<ExitCode, Failure> {
    // `requires = "resume"` would be waived by clap, since FILE excludes --resume.
    if let (Some(dataset), None) = (&arguments.dataset, &arguments.resume) {
        return Err(Failure::usage(format!(
            "--dataset {dataset} needs --resume, and says where the data of a begun sweep is now; the data of a new sweep \
             is named by `data.dataset` in its file, or by --set data.dataset={dataset}"
        )));
    }
    let common = CommonArguments {
        out: arguments.out.clone(),
        data_dir: arguments.data_dir.clone(),
        threads: arguments.threads,
        progress: arguments.progress,
        ..CommonArguments::default()
    };
    set_up(&common)?;
    if arguments.resume.is_none() {
        RunFolder::check_free(&arguments.out, arguments.name.as_deref())?;
    }
    let (file, opened) = match (&arguments.file, &arguments.resume) {
        (Some(file), _) => (SweepFile::read(file, &arguments.set, &common.search()), None),
        (None, Some(folder)) => {
            let opened = RunFolder::open_with(folder, SWEEP_FILE)?;
            (SweepFile::stored(&folder.join(SWEEP_FILE)), Some(opened))
        }
        (None, None) => return Err(Failure::usage("give a sweep's FILE, or a folder to --resume")),
    };
    let begun = arguments.resume.as_deref();
    let prepare = |file| Sweep::prepare(file, &common.search(), begun, arguments.dataset.as_deref());
    let sweep = file.and_then(prepare).map_err(SweepFailure)?;
    let folder = match opened {
        Some(folder) => folder,
        None => {
            let folder = RunFolder::create(&arguments.out, arguments.name.as_deref(), "sweep")?;
            folder.write(SWEEP_FILE, sweep.file().to_toml().as_bytes())?;
            folder
        }
    };
    let rounds: Vec<String> = sweep
        .rungs()
        .iter()
        .map(|rung| format!("{} with {}", rung.trials, counted(rung.epochs, "epoch")))
        .collect();
    tracing::info!(
        "{} in {}: {}",
        counted(sweep.trials().len(), "trial"),
        folder.path().display(),
        rounds.join(", then ")
    );
    let Some(record) = sweep.run(&folder, &run_context("sweep", &common)?).map_err(SweepFailure)? else {
        say(&format!(
            "stopped; what is done is saved. Go on with:\n  kiln sweep --resume {}",
            folder.path().display()
        ));
        return Ok(ExitCode::from(INTERRUPTED as u8));
    };
    if arguments.json {
        print_json(&record)?;
    } else {
        print(&in_words(&record))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(record: &SweepRecord) -> String {
    let ranked = record.ranked();
    let keys: Vec<&String> =
        record.trials.first().map(|trial| trial.values.keys().collect()).unwrap_or_default();
    let folds = ranked.iter().any(|trial| trial.valid_accuracy.is_some_and(|spread| spread.deviation > 0.0));
    let mut header = vec!["trial".to_owned()];
    header.extend(keys.iter().map(|key| (*key).clone()));
    header.extend(["epochs", "best", "valid"].map(str::to_owned));
    if folds {
        header.push("+-".to_owned());
    }
    header.extend(["loss", "parameters", "seconds", ""].map(str::to_owned));
    let mut rows = vec![header];
    for trial in ranked {
        let mut row = vec![trial.number.to_string()];
        row.extend(
            keys.iter().map(|key| trial.values.get(*key).map_or_else(String::new, ToString::to_string)),
        );
        row.extend([trial.epochs.to_string(), trial.best_epoch.to_string()]);
        let absent = || "-".to_owned();
        let percent = |value: f64| format!("{:.2}%", value * 100.0);
        row.push(trial.valid_accuracy.map_or_else(absent, |spread| percent(spread.mean)));
        if folds {
            row.push(trial.valid_accuracy.map_or_else(absent, |spread| percent(spread.deviation)));
        }
        row.push(trial.valid_loss.map_or_else(absent, |spread| format!("{:.4}", spread.mean)));
        row.extend([trial.parameters.to_string(), format!("{:.1}", trial.seconds), note(trial, record)]);
        rows.push(row);
    }
    let config = record.best_config.as_deref().unwrap_or_default();
    format!(
        "{}\n\nbest    {config}  (chosen by validation; no trial has read the test split: `kiln train --config {config}` does)\n\
         picture {}/report/sweep.svg",
        table(&rows),
        record.sweep
    )
}

fn note(trial: &TrialRecord, record: &SweepRecord) -> String {
    let last = record.rungs.last().map_or(0, |rung| rung.epochs);
    match trial.status {
        _ if record.best == Some(trial.number) => "best".to_owned(),
        TrialStatus::Diverged => "diverged".to_owned(),
        TrialStatus::Finished if trial.budget < last => format!("given up after {}", trial.budget),
        TrialStatus::Finished | TrialStatus::Waiting => String::new(),
    }
}
