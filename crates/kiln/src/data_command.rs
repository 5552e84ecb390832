//! `kiln data`: what data is where, and whether it can be trusted.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use data::{Dataset, Search};
use serde_json::json;
use train::command::{Failure, log_to_stderr, print, print_json};

use crate::table::table;

/// Flags of `kiln data`.
#[derive(Args, Debug)]
pub(crate) struct DataArguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Look for data files here first
    #[arg(long, value_name = "FOLDER", env = "KILN_DATA", global = true)]
    data_dir: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// What is on this machine, verified; downloads nothing (the default)
    List,
    /// Fetch and verify a data set
    Get {
        /// mnist or fashion-mnist
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read and check a data set or a folder with IDX files; counts the classes
    Check {
        /// Name or folder
        #[arg(value_name = "NAME|FOLDER")]
        name: String,
    },
}

pub(crate) fn run(arguments: &DataArguments) -> Result<ExitCode, Failure> {
    log_to_stderr(arguments.json);
    let search =
        Search { data_dir: arguments.data_dir.clone(), progress: !arguments.json, ..Search::default() };
    match &arguments.action {
        None | Some(Action::List) => list(&search, arguments.json)?,
        Some(Action::Get { name } | Action::Check { name }) => check(name, &search, arguments.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(search: &Search, as_json: bool) -> Result<(), Failure> {
    let states = data::status(search);
    if as_json {
        return print_json(&json!({ "datasets": states }));
    }
    let mut text = Vec::new();
    for state in states {
        match &state.found {
            Some(found) => {
                let train: usize = found.train_counts.iter().sum();
                let test: usize = found.test_counts.iter().sum();
                text.push(format!(
                    "{}: verified, {train} train and {test} test images of {}x{}, from {}",
                    state.name, found.size[0], found.size[1], found.origin
                ));
            }
            None => {
                text.push(format!("{0}: not on this machine; `kiln data get {0}` fetches it", state.name));
                text.extend(
                    state.attempts.iter().map(|attempt| format!("  {}: {}", attempt.source, attempt.reason)),
                );
            }
        }
    }
    text.push("mnist-sample: built in, 2000 train and 500 test images of 28x28".to_owned());
    print(&text.join("\n"))
}

fn check(name: &str, search: &Search, as_json: bool) -> Result<(), Failure> {
    let pair = data::load(name, search).map_err(Failure::failed)?;
    let skew = data::balance::Skew::of(&pair.train.class_counts(), &pair.train.class_names);
    if as_json {
        let part = |part: &Dataset| json!({ "images": part.len(), "class_counts": part.class_counts() });
        return print_json(&json!({
            "dataset": pair.train.name,
            "origin": pair.origin,
            "shape": [pair.train.shape.channels, pair.train.shape.height, pair.train.shape.width],
            "class_names": pair.train.class_names,
            "train": part(&pair.train),
            "test": part(&pair.test),
            "sha256": pair.sha256,
            "warning": skew.map(|skew| skew.to_string()),
        }));
    }
    let mut rows = vec![["class", "train", "test"].map(str::to_owned).to_vec()];
    let counts = pair.train.class_counts().into_iter().zip(pair.test.class_counts());
    for (class, (train, test)) in pair.train.class_names.iter().zip(counts) {
        rows.push(vec![class.clone(), train.to_string(), test.to_string()]);
    }
    rows.push(vec!["all".to_owned(), pair.train.len().to_string(), pair.test.len().to_string()]);
    let mut text =
        format!("{}: {} images, from {}\n{}", pair.train.name, pair.train.shape, pair.origin, table(&rows));
    for (file, digest) in &pair.sha256 {
        text.push_str(&format!("\nSHA-256 {digest}  {file}"));
    }
    if let Some(skew) = skew {
        text.push_str(&format!("\nwarning: {skew}"));
    }
    print(&text)
}
