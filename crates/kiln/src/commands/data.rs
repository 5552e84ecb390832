//! `kiln data`: what data is where, whether it can be trained on, and what augmentation makes of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use burn::data::dataloader::DataLoader;
use clap::{Args, Subcommand};
use data::balance::Skew;
use data::findings::grouped;
use data::{
    BatchLoader, Checked, Dataset, DatasetPair, ImageOptions, InputRequest, LoaderConfig, OnBadImage,
    Sampler, Search, Sizes,
};
use evaluation::report::{ReportImage, SampleRow, sample_sheet};
use model::TaskName;
use serde_json::{Map, Value, json};
use train::command::{Failure, log_to_stderr, print, print_json, write_file};
use train::config::arguments::FitArgument;
use train::config::{ConfigLayers, TrainConfig};

use crate::pictures::check_drawing;
use crate::table::table;

/// Files of one kind that are listed in words; `--json` lists all.
const LISTED: usize = 50;

/// Flags of `kiln data`.
#[derive(Args, Debug)]
pub(crate) struct DataArguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Look for data files here first [default: the variable `KILN_DATA`]
    #[arg(long, value_name = "FOLDER", global = true)]
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
        /// mnist, fashion-mnist, cifar10 or cifar100
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Read and check everything without training: counts classes, lists all that is wrong with folders, lists and pictures;
    /// exit status 1 if training would refuse it
    Check(CheckArguments),
    /// Draw training images beside what augmentation makes of them
    Show(ShowArguments),
}

/// How pictures become images.
#[derive(Args, Debug, Default)]
struct ImageArguments {
    /// Size of the images: 64x64 (height x width) or 3x64x64
    #[arg(long, value_name = "SIZE")]
    input: Option<InputRequest>,
    /// How pictures of another size are made to fit [default: crop]
    #[arg(long, value_enum)]
    fit: Option<FitArgument>,
}

#[derive(Args, Debug)]
struct CheckArguments {
    /// Name, folder or CSV file
    #[arg(value_name = "NAME|FOLDER|CSV")]
    name: String,
    #[command(flatten)]
    images: ImageArguments,
}

#[derive(Args, Debug)]
struct ShowArguments {
    /// Name, folder or CSV file
    #[arg(value_name = "NAME|FOLDER|CSV")]
    name: String,
    /// The picture
    #[arg(long, value_name = "FILE.png")]
    out: PathBuf,
    /// Images, taken from the classes in turn
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    count: u16,
    /// Epochs shown beside each
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=32))]
    epochs: u16,
    /// Seed of everything random
    #[arg(long)]
    seed: Option<u32>,
    /// A TOML file with any part of the configuration (see configs/)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any key of the configuration, for example `data.augment.flip=true`; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    images: ImageArguments,
}

pub(crate) fn run(arguments: &DataArguments) -> Result<ExitCode, Failure> {
    let check = matches!(arguments.action, Some(Action::Check(_)));
    // A check prints all it finds as its result.
    log_to_stderr(arguments.json || check);
    let search =
        Search { data_dir: arguments.data_dir.clone(), progress: !arguments.json, ..Search::default() };
    match &arguments.action {
        None | Some(Action::List) => list(&search, arguments.json)?,
        Some(Action::Get { name }) => {
            let pair = load(name, &search, &ImageOptions::default())?;
            let checked = Checked { pictures: None, pair: Some(pair), findings: Vec::new() };
            tell(name, &checked, arguments.json)?;
        }
        Some(Action::Check(check)) => {
            let options = ImageOptions { on_bad_image: OnBadImage::Skip, ..check.images.options() };
            let checked = data::check(&check.name, &search, &options).map_err(Failure::failed)?;
            tell(&check.name, &checked, arguments.json)?;
            if checked.findings.iter().any(|finding| finding.kind.is_fault()) {
                return Ok(ExitCode::FAILURE);
            }
        }
        Some(Action::Show(show)) => self::show(show, &search, arguments.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl ImageArguments {
    fn options(&self) -> ImageOptions {
        ImageOptions {
            input: self.input,
            fit: self.fit.map(|fit| data::FitName::from(fit).fit(0)),
            ..ImageOptions::default()
        }
    }
}

fn load(name: &str, search: &Search, options: &ImageOptions) -> Result<DatasetPair, Failure> {
    data::load_with(name, search, options).map_err(Failure::failed)
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

/// Training images without those for validation, and those.
fn train_and_valid(pair: &DatasetPair) -> (Vec<usize>, Vec<usize>) {
    let mut train = pair.train.class_counts();
    let mut valid = vec![0; train.len()];
    for &index in &pair.valid {
        for &class in pair.train.labels.of(index as usize) {
            train[class as usize] -= 1;
            valid[class as usize] += 1;
        }
    }
    (train, valid)
}

/// The result of a check: what there is, and at the end everything that is wrong with it.
fn tell(name: &str, checked: &Checked, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let usable = checked.pair.is_some() && !checked.findings.iter().any(|finding| finding.kind.stops());
        let mut result = match &checked.pair {
            Some(pair) => in_json(pair),
            None => Map::from_iter([
                ("dataset".to_owned(), json!(name)),
                ("pictures".to_owned(), json!(checked.pictures)),
            ]),
        };
        result.insert("usable".to_owned(), usable.into());
        result.insert("findings".to_owned(), json!(checked.findings));
        return print_json(&result);
    }
    let mut text = match &checked.pair {
        Some(pair) => in_words(pair),
        None => format!("{name}: cannot be trained on as it is"),
    };
    if !checked.findings.is_empty() {
        text.push('\n');
        text.push_str(&grouped(&checked.findings, LISTED));
    }
    print(&text)
}

/// Images to train on, to validate on and to test on.
fn images(pair: &DatasetPair) -> [usize; 3] {
    [pair.train.len() - pair.valid.len(), pair.valid.len(), pair.test.len()]
}

/// A warning where images have one class each; what it advises is for those.
fn skew(pair: &DatasetPair, train: &[usize]) -> Option<Skew> {
    Skew::of(train, &pair.train.class_names).filter(|_| !pair.train.labels.is_sets())
}

fn in_json(pair: &DatasetPair) -> Map<String, Value> {
    let (train, valid) = train_and_valid(pair);
    let [images @ .., tested] = images(pair);
    let part = |counts: &[usize], images: usize| json!({ "images": images, "class_counts": counts });
    let skew = skew(pair, &train);
    let result = json!({
        "dataset": pair.train.name,
        "origin": pair.origin,
        "shape": [pair.train.shape.channels, pair.train.shape.height, pair.train.shape.width],
        "mean": pair.preprocessing.mean,
        "std": pair.preprocessing.std,
        "class_names": pair.train.class_names,
        "task": if pair.train.labels.is_sets() { TaskName::MultiLabel } else { TaskName::Classify },
        "train": part(&train, images[0]),
        "valid": part(&valid, images[1]),
        "test": part(&pair.test.class_counts(), tested),
        "sha256": pair.sha256,
        "pictures": pair.pictures,
        "warning": skew.map(|skew| skew.to_string()),
    });
    match result {
        Value::Object(result) => result,
        _ => Map::new(),
    }
}

fn in_words(pair: &DatasetPair) -> String {
    let (train, valid) = train_and_valid(pair);
    let test = pair.test.class_counts();
    let head = if pair.valid.is_empty() {
        &["class", "train", "test"][..]
    } else {
        &["class", "train", "valid", "test"]
    };
    let mut rows = vec![head.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()];
    let mut row = |name: &str, counts: [usize; 3]| {
        let shown = counts.iter().enumerate().filter(|(column, _)| *column != 1 || !pair.valid.is_empty());
        rows.push(
            std::iter::once(name.to_owned()).chain(shown.map(|(_, count)| count.to_string())).collect(),
        );
    };
    for (class, name) in pair.train.class_names.iter().enumerate() {
        row(name, [train[class], valid[class], test[class]]);
    }
    row("all", images(pair));
    let mut text =
        format!("{}: {} images, from {}\n{}", pair.train.name, pair.train.shape, pair.origin, table(&rows));
    if let Some(report) = &pair.pictures {
        text.push_str(&sizes(&report.sizes));
    }
    for (file, digest) in &pair.sha256 {
        text.push_str(&format!("\nSHA-256 {digest}  {file}"));
    }
    if pair.train.labels.is_sets() {
        text.push_str("\nseveral labels a picture (multi-label): `all` counts each picture once");
    }
    if let Some(skew) = skew(pair, &train) {
        text.push_str(&format!("\nwarning: {skew}"));
    }
    text
}

fn sizes(sizes: &Sizes) -> String {
    let size = |[width, height]: [usize; 2]| format!("{width}x{height}");
    match sizes.distinct {
        1 => format!("\nall pictures are {}", size(sizes.smallest)),
        distinct => format!(
            "\n{distinct} sizes of pictures, {} to {}, median {}",
            size(sizes.smallest),
            size(sizes.largest),
            size(sizes.median)
        ),
    }
}

fn show(arguments: &ShowArguments, search: &Search, as_json: bool) -> Result<(), Failure> {
    check_drawing(&arguments.out, [arguments.name.as_str()])?;
    let config = arguments.config()?;
    let pair = load(&config.data.dataset, search, &config.data.images())?;
    let train = Arc::new(pair.train);
    let indices = first_of_each_class(&train, usize::from(arguments.count));
    let preprocessing = pair.preprocessing;
    let loader = BatchLoader::new(
        Arc::clone(&train),
        indices.clone().into(),
        preprocessing.clone(),
        LoaderConfig {
            batch_size: indices.len(),
            shuffle: None,
            sampler: Sampler::Once,
            augment: Some((config.data.augment, config.seed)),
            workers: 0,
        },
        train::device::processor(),
    )
    .map_err(Failure::failed)?;

    let shape = train.shape;
    let image = |pixels: Vec<u8>| ReportImage {
        width: shape.width,
        height: shape.height,
        channels: shape.channels,
        pixels: pixels.into(),
    };
    let mut rows: Vec<SampleRow<'_>> = indices
        .iter()
        .map(|&index| SampleRow {
            label: train.class_of(index as usize).into_owned(),
            original: image(train.image(index as usize).to_vec()),
            augmented: Vec::new(),
        })
        .collect();
    for epoch in 1..=usize::from(arguments.epochs) {
        loader.seek(epoch, 0);
        for batch in loader.iter() {
            let batch = batch.map_err(Failure::failed)?;
            let values: Vec<f32> = batch.images.into_data().iter::<f32>().collect();
            let classes = train.class_names.len();
            let targets: Option<Vec<f32>> =
                batch.probabilities.map(|probabilities| probabilities.into_data().iter::<f32>().collect());
            for (position, (row, values)) in rows.iter_mut().zip(values.chunks_exact(shape.len())).enumerate()
            {
                let text = match &targets {
                    None => format!("epoch {epoch}"),
                    Some(targets) => mixture(&targets[position * classes..][..classes], &train.class_names),
                };
                row.augmented.push((image(preprocessing.denormalize(values)), text));
            }
        }
    }
    let sheet = sample_sheet(&rows).map_err(Failure::failed)?;
    write_file(&arguments.out, &sheet)?;
    let out = arguments.out.display().to_string();
    if as_json {
        return print_json(&json!({ "picture": out, "images": rows.len(), "epochs": arguments.epochs }));
    }
    print(&out)
}

impl ShowArguments {
    fn config(&self) -> Result<TrainConfig, Failure> {
        let mut layers = match &self.config {
            Some(path) => ConfigLayers::from_file(path)?,
            None => ConfigLayers::default(),
        };
        layers.set("data.dataset", self.name.clone());
        if let Some(seed) = self.seed {
            layers.set("seed", i64::from(seed));
        }
        for expression in &self.set {
            layers.set_expression(expression)?;
        }
        let mut config = layers.resolve()?;
        let own = self.images.options();
        config.data.input = own.input.or(config.data.input);
        config.data.fit = self.images.fit.map(Into::into).or(config.data.fit);
        Ok(config)
    }
}

/// Positions of `count` images, from the classes in turn; those of several classes count for their first one, and those of
/// none come last.
fn first_of_each_class(dataset: &Dataset, count: usize) -> Vec<u32> {
    let none = dataset.class_names.len();
    let mut classes = vec![Vec::new(); none + 1];
    for (index, labels) in dataset.labels.iter().enumerate() {
        classes[labels.first().map_or(none, |&label| label as usize)].push(index as u32);
    }
    let longest = classes.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| classes.iter().filter_map(move |class| class.get(turn)));
    turns.copied().take(count).collect()
}

/// The likeliest targets: `cat 70 %, dog 30 %`.
fn mixture(row: &[f32], names: &[String]) -> String {
    let mut shares: Vec<(f32, &String)> =
        row.iter().copied().zip(names).filter(|(share, _)| *share > 0.0).collect();
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    shares.iter().map(|(share, name)| format!("{name} {:.0} %", share * 100.0)).collect::<Vec<_>>().join(", ")
}
