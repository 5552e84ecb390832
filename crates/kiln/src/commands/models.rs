//! `kiln models`: the networks that have a name, with their sizes.

use std::process::ExitCode;

use clap::Args;
use model::{CatalogEntry, InputShape, NetworkConfig, Summary};
use serde::Serialize;
use train::command::{Failure, print, print_json};

use crate::table::table;

/// Flags of `kiln models`.
#[derive(Args, Debug)]
pub(crate) struct ModelsArguments {
    /// Show every layer of this network
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Images as channels, height and width, for example 3x32x32 [default: those of the network's publication]
    #[arg(long, value_name = "CxHxW", value_parser = input_shape)]
    input: Option<InputShape>,
    /// Classes [default: those of the network's publication]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Print one JSON object, `{"models": [...]}`
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    models: Vec<Item>,
}

/// What `--json` prints of a network. Where it does not take such images, `error` says why and the
/// figures are null.
#[derive(Serialize)]
struct Item {
    name: &'static str,
    source: &'static str,
    input: [usize; 3],
    classes: usize,
    parameters: Option<usize>,
    macs: Option<u64>,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Layer>>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    kind: String,
    output: Vec<usize>,
    parameters: usize,
    macs: u64,
}

fn input_shape(text: &str) -> Result<InputShape, String> {
    let sizes: Option<Vec<usize>> = text.split('x').map(|part| part.parse().ok()).collect();
    match sizes.as_deref() {
        Some(&[channels, height, width]) if channels > 0 && height > 0 && width > 0 => {
            Ok(InputShape::new(channels, height, width))
        }
        _ => Err("expected CHANNELSxHEIGHTxWIDTH, for example 1x28x28".to_owned()),
    }
}

pub(crate) fn run(arguments: &ModelsArguments) -> Result<ExitCode, Failure> {
    let entries = match &arguments.name {
        None => model::catalog(),
        Some(name) => vec![NetworkConfig::named(name).ok_or_else(|| {
            let known: Vec<_> = model::catalog().iter().map(|entry| entry.name).collect();
            Failure::usage(format!("no network named {name}; expected one of {}", known.join(", ")))
        })?],
    };
    let sized: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let input = arguments.input.unwrap_or(entry.input);
            let classes = arguments.classes.unwrap_or(entry.classes);
            let summary = entry.config.summary(input, classes).map_err(|error| error.to_string());
            (CatalogEntry { input, classes, ..entry }, summary)
        })
        .collect();
    if let (Some(_), Some((entry, Err(error)))) = (&arguments.name, sized.first()) {
        return Err(Failure::failed(format!("{} does not take {} images: {error}", entry.name, entry.input)));
    }
    if arguments.json {
        let layers = arguments.name.is_some();
        print_json(&Listing { models: sized.iter().map(|(entry, sum)| item(entry, sum, layers)).collect() })?;
    } else if let (Some(_), Some((entry, Ok(summary)))) = (&arguments.name, sized.first()) {
        print(&format!("{}: {}\n\n{summary}", entry.name, entry.source))?;
    } else {
        let header = ["network", "input", "classes", "parameters", "MACs", "source"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(sized.iter().map(|(entry, summary)| row(entry, summary)));
        print(&table(&rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &CatalogEntry, summary: &Result<Summary, String>) -> Vec<String> {
    let (parameters, macs) = match summary {
        Ok(summary) => (model::thousands(summary.parameters() as u64), model::thousands(summary.macs())),
        Err(_) => ("does not fit".to_owned(), "-".to_owned()),
    };
    vec![
        entry.name.to_owned(),
        entry.input.to_string(),
        entry.classes.to_string(),
        parameters,
        macs,
        entry.source.to_owned(),
    ]
}

fn item(entry: &CatalogEntry, summary: &Result<Summary, String>, layers: bool) -> Item {
    let InputShape { channels, height, width } = entry.input;
    let sound = summary.as_ref().ok();
    Item {
        name: entry.name,
        source: entry.source,
        input: [channels, height, width],
        classes: entry.classes,
        parameters: sound.map(Summary::parameters),
        macs: sound.map(Summary::macs),
        error: summary.as_ref().err().cloned(),
        layers: sound.filter(|_| layers).map(|summary| {
            let layer = |layer: &model::LayerSummary| Layer {
                name: layer.name.clone(),
                kind: layer.kind.clone(),
                output: layer.output.clone(),
                parameters: layer.parameters,
                macs: layer.macs,
            };
            summary.layers.iter().map(layer).collect()
        }),
    }
}
