//! `kiln compare`: finished runs side by side, and whether their answers differ by more than chance.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use data::listed;
use evaluation::paired_test::{PairedTest, holm};
use evaluation::predictions::Predictions;
use serde::Serialize;
use train::command::{Failure, print, print_json};
use train::run::record::{RunRecord, RunResult, RunStatus, read_record};

use crate::commands::runs::{FIGURES, figures};
use crate::table::table;

/// Flags of `kiln compare`.
#[derive(Args, Debug)]
pub(crate) struct CompareArguments {
    /// Run folders, or names of runs in --out
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    runs: Vec<PathBuf>,
    /// Folder of runs
    #[arg(long, value_name = "FOLDER", default_value = "artifacts")]
    out: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Comparison<'a> {
    subset: &'a str,
    images: usize,
    runs: Vec<&'a RunResult>,
    pairs: Vec<Pair<'a>>,
}

#[derive(Serialize)]
struct Pair<'a> {
    first: &'a str,
    second: &'a str,
    #[serde(flatten)]
    test: PairedTest,
    /// `p_value` adjusted for the number of pairs.
    p_value_holm: f64,
}

struct Run {
    name: String,
    record: RunRecord,
    result: RunResult,
    predictions: Predictions,
}

pub(crate) fn run(arguments: &CompareArguments) -> Result<ExitCode, Failure> {
    let mut runs: Vec<Run> = Vec::new();
    for name in &arguments.runs {
        let run = Run::read(name, &arguments.out)?;
        if runs.iter().any(|other| other.name == run.name) {
            return Err(Failure::usage(format!("{} is named twice", run.name)));
        }
        if let Some(first) = runs.first() {
            same_images(first, &run)?;
        }
        runs.push(run);
    }
    let pairs = pairs(&runs);
    let images = runs.first().map_or(0, |run| run.predictions.targets.len());
    let subset = runs.first().map_or("", |run| &run.predictions.subset);
    if arguments.json {
        print_json(&Comparison {
            subset,
            images,
            runs: runs.iter().map(|run| &run.result).collect(),
            pairs,
        })?;
    } else {
        print(&in_words(subset, images, &runs, &pairs))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Run {
    fn read(name: &Path, runs: &Path) -> Result<Self, Failure> {
        // A folder of pictures here may bear the name of a run.
        let (here, there) = (name.to_owned(), runs.join(name));
        let path =
            if here.is_dir() && (!there.is_dir() || here.join("run.json").exists()) { here } else { there };
        if !path.is_dir() {
            return Err(Failure::failed(format!(
                "there is no run {}: expected a run folder, or the name of one in {}; `kiln runs` lists them",
                name.display(),
                runs.display()
            )));
        }
        let record = read_record(&path)?;
        let result = match (&record.result, record.status) {
            (Some(result), RunStatus::Finished) => result.clone(),
            _ => {
                return Err(Failure::failed(format!(
                    "{} has not finished: only finished runs can be compared; go on with it by --resume {0}",
                    path.display()
                )));
            }
        };
        let predictions = Predictions::read(&path).map_err(Failure::failed)?;
        Ok(Self { name: path.display().to_string(), record, result, predictions })
    }
}

/// A paired test needs pairs: both runs must have answered the same images.
fn same_images(first: &Run, second: &Run) -> Result<(), Failure> {
    let refuse = |what: String| {
        Failure::failed(format!(
            "{} and {} cannot be compared: {what}; evaluate both models on the same data first",
            first.name, second.name
        ))
    };
    let (a, b) = (&first.predictions, &second.predictions);
    if a.subset != b.subset {
        return Err(refuse(format!(
            "the first was judged on {} images, the second on {}",
            a.subset, b.subset
        )));
    }
    if !same_data(&first.record, &second.record) {
        return Err(refuse(format!(
            "their images are not the same ({} and {}: the SHA-256 of the data differs)",
            first.record.dataset, second.record.dataset
        )));
    }
    let (own, other): (BTreeSet<&String>, BTreeSet<&String>) =
        (a.classes.iter().collect(), b.classes.iter().collect());
    if own != other {
        return Err(refuse(format!(
            "they tell other classes apart ({} and {})",
            listed(&a.classes),
            listed(&b.classes)
        )));
    }
    let same_targets = || (0..a.targets.len()).all(|position| a.class(position) == b.class(position));
    // Reports of earlier versions name no files.
    let same_files = || {
        let pairs = || a.files.iter().zip(&b.files);
        pairs().any(|(own, other)| own.is_empty() != other.is_empty())
            || pairs().all(|(own, other)| own == other)
    };
    if a.indices != b.indices || !same_targets() || !same_files() {
        return Err(refuse(format!(
            "they held back different images of {} ({} and {})",
            first.record.dataset,
            a.targets.len(),
            b.targets.len()
        )));
    }
    Ok(())
}

/// Whether two runs ended with the same images: by what they show, where both remember that.
fn same_data(first: &RunRecord, second: &RunRecord) -> bool {
    let content = |record: &RunRecord| {
        let changed = record.changed_data.last().map(|changed| changed.content_sha256.clone());
        changed.or_else(|| Some(record.data.as_ref()?.content_sha256.clone()))
    };
    match (content(first), content(second)) {
        (Some(first), Some(second)) => first == second,
        _ => first.data_sha256 == second.data_sha256,
    }
}

fn pairs(runs: &[Run]) -> Vec<Pair<'_>> {
    let mut pairs = Vec::new();
    for (index, first) in runs.iter().enumerate() {
        for second in &runs[index + 1..] {
            let test = PairedTest::new(first.predictions.right().zip(second.predictions.right()));
            pairs.push(Pair { first: &first.name, second: &second.name, test, p_value_holm: test.p_value });
        }
    }
    let adjusted = holm(&pairs.iter().map(|pair| pair.test.p_value).collect::<Vec<_>>());
    for (pair, adjusted) in pairs.iter_mut().zip(adjusted) {
        pair.p_value_holm = adjusted;
    }
    pairs
}

fn p_value(p: f64) -> String {
    if p < 1e-3 { format!("{p:.1e}") } else { format!("{p:.3}") }
}

fn in_words(subset: &str, images: usize, runs: &[Run], pairs: &[Pair]) -> String {
    let mut header = vec!["run", "data", "seed", "epochs", "best"];
    header.extend(FIGURES);
    let mut rows = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(runs.iter().map(|Run { name, result, .. }| {
        let mut row = vec![
            name.clone(),
            result.dataset.clone(),
            result.seed.to_string(),
            result.epochs.to_string(),
            result.best_epoch.to_string(),
        ];
        row.extend(figures(result));
        row
    }));
    let several = pairs.len() > 1;
    let mut header = vec!["first", "second", "only first right", "only second right", "difference", "p"];
    if several {
        header.push("p (Holm)");
    }
    let mut tests = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    tests.extend(pairs.iter().map(|pair| {
        let mut row = vec![
            pair.first.to_owned(),
            pair.second.to_owned(),
            pair.test.only_first_right.to_string(),
            pair.test.only_second_right.to_string(),
            format!("{:+.2}%", pair.test.difference * 100.0),
            p_value(pair.test.p_value),
        ];
        if several {
            row.push(p_value(pair.p_value_holm));
        }
        row
    }));
    let adjusted = if several { ", and `p (Holm)` allows for the number of pairs" } else { "" };
    format!(
        "{}\n\nMcNemar's exact test on the same {images} {subset} images:\n{}\n\
         p is the chance of so uneven a split of the disagreements if neither were better{adjusted}.",
        table(&rows),
        table(&tests)
    )
}
