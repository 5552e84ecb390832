//! The command `finetune`, from outside.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use data::idx::{Content, Idx};
use serde_json::Value;
use support::Bench;
use train::arguments::{CommonArguments, TrainArguments};

/// A bench with a trained model at `start.kiln`, and folders of IDX files made from the sample:
/// `quarters` has four classes (label modulo 4), `tens` all ten.
fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_finetune"));
    let arguments = TrainArguments {
        common: CommonArguments {
            dataset: Some("mnist-sample".to_owned()),
            epochs: Some(4),
            learning_rate: Some(3e-3),
            out: bench.path("elsewhere"),
            name: Some("start".to_owned()),
            progress: Some(train::progress::ProgressMode::None),
            ..CommonArguments::default()
        },
        model: None,
    };
    let config = arguments.config().expect("a configuration");
    let start = train::fit::Start::Scratch;
    train::command::run_silently("train", &config, start, &arguments.common).expect("a trained model");
    fs::copy(bench.path("elsewhere/start/model.kiln"), bench.path("start.kiln")).expect("a model");
    let sample = data::load("mnist-sample", &data::Search::default()).expect("the sample");
    write_idx(&bench.path("tens"), &sample, |label| label);
    write_idx(&bench.path("quarters"), &sample, |label| label % 4);
    bench
}

fn write_idx(folder: &Path, pair: &data::DatasetPair, relabel: impl Fn(u8) -> u8) {
    fs::create_dir_all(folder).expect("a folder");
    for (prefix, part) in [("train", &pair.train), ("t10k", &pair.test)] {
        let dimensions = vec![part.len(), part.shape.height, part.shape.width];
        let images = Idx::new(Content::Images, dimensions, part.pixels.clone());
        let labels: Vec<u8> = part.labels.iter().map(|label| relabel(*label)).collect();
        let labels = Idx::new(Content::Labels, vec![part.len()], labels);
        for (kind, idx, content) in
            [("images-idx3", &images, Content::Images), ("labels-idx1", &labels, Content::Labels)]
        {
            let mut bytes = Vec::new();
            idx.write(content, &mut bytes).expect("bytes");
            fs::write(folder.join(format!("{prefix}-{kind}-ubyte")), bytes).expect("written");
        }
    }
}

const QUICK: &[&str] = &["--epochs", "2", "--json", "--progress", "none"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [QUICK, more].concat()
}

fn tensors(path: &Path) -> Vec<(String, Vec<f32>)> {
    let bytes = fs::read(path).expect("a model");
    let model = model::decode(&bytes, &burn::tensor::Device::flex()).expect("a model");
    model::named_tensors(&model.network)
        .into_iter()
        .map(|(name, data)| (name, data.iter::<f32>().collect()))
        .collect()
}

fn changed(before: &Path, after: &Path) -> Vec<String> {
    tensors(before)
        .into_iter()
        .zip(tensors(after))
        .filter(|(before, after)| before != after)
        .map(|(_, after)| after.0)
        .collect()
}

#[test]
fn another_number_of_classes_gets_a_new_head_and_frozen_features_stay() {
    let bench = bench();
    let result = bench.json(&with(&[
        "--from",
        "start.kiln",
        "--dataset",
        "quarters",
        "--freeze",
        "features",
        "--learning-rate",
        "0.01",
        "--name",
        "frozen",
    ]));
    assert!(result["test_accuracy"].as_f64().expect("a number") > 0.7, "{result}");
    let changed = changed(&bench.path("start.kiln"), &bench.path("artifacts/frozen/model.kiln"));
    assert!(!changed.is_empty() && changed.iter().all(|name| !name.starts_with("blocks.")), "{changed:?}");
}

#[test]
fn thawed_features_and_a_rate_of_their_own_move() {
    let bench = bench();
    let moved = |name: &str, more: &[&str]| {
        let mut arguments = with(&["--from", "start.kiln", "--dataset", "quarters", "--name", name]);
        arguments.extend(more);
        bench.json(&arguments);
        let before = tensors(&bench.path("start.kiln"));
        let after = tensors(&bench.path(&format!("artifacts/{name}/model.kiln")));
        let first = |tensors: &[(String, Vec<f32>)]| {
            tensors.iter().find(|(name, _)| name == "blocks.0.conv.weight").expect("a weight").1.clone()
        };
        let (before, after) = (first(&before), first(&after));
        before.iter().zip(&after).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let full = moved("full", &[]);
    let slow = moved("slow", &["--feature-rate", "0.01"]);
    let none = moved("none", &["--feature-rate", "0"]);
    let late = moved("late", &["--freeze", "^network.*blocks", "--unfreeze-at", "2"]);
    assert!(none.abs() < f64::MIN_POSITIVE, "{none}");
    assert!(slow > 0.0 && slow < full / 5.0, "{slow} {full}");
    assert!(late > 0.0 && late < full, "{late} {full}");
}

#[test]
fn a_kept_head_needs_the_same_classes() {
    let bench = bench();
    let kept = bench.json(&with(&["--from", "start.kiln", "--dataset", "tens", "--keep-head"]));
    assert!(kept["test_accuracy"].as_f64().expect("a number") > 0.8, "{kept}");
    bench
        .run(&with(&["--from", "start.kiln", "--dataset", "quarters", "--keep-head"]))
        .fails(1, &["head.weight", "10", "4"]);
}

#[test]
fn the_comparison_trains_both_and_shows_them() {
    let bench = bench();
    let result = bench.json(&with(&[
        "--from",
        "start.kiln",
        "--dataset",
        "tens",
        "--limit",
        "300",
        "--compare-scratch",
        "--name",
        "both",
    ]));
    let accuracy = |value: &Value| value["test_accuracy"].as_f64().expect("a number");
    assert!(accuracy(&result) > accuracy(&result["scratch"]), "same digits, trained before: {result}");
    let page = fs::read_to_string(bench.path("artifacts/both/report/comparison.html")).expect("a page");
    assert!(page.contains("from scratch") && page.contains("both-scratch"), "{page}");
}

#[test]
fn a_finetuning_run_resumes_bit_for_bit() {
    let bench = bench();
    let arguments = |name| {
        with(&[
            "--from",
            "start.kiln",
            "--dataset",
            "quarters",
            "--freeze",
            "features",
            "--unfreeze-at",
            "2",
            "--feature-rate",
            "0.5",
            "--checkpoint-every",
            "3",
            "--name",
            name,
        ])
    };
    let whole = bench.json(&arguments("whole"));
    let mut child = bench.spawn(&arguments("killed"));
    while !bench.path("artifacts/killed/checkpoints").exists()
        || !support::files(&bench.path("artifacts/killed")).iter().any(|file| file.ends_with("manifest.json"))
    {
        std::thread::yield_now();
    }
    child.kill().expect("kill -9");
    child.wait().expect("a child");
    let resumed = bench.json(&["--resume", "--json", "--progress", "none"]);
    for key in ["weights_sha256", "last_weights_sha256", "optimizer_sha256"] {
        assert_eq!(resumed[key], whole[key], "{key}");
    }
}

#[test]
fn foreign_and_damaged_models_are_refused_by_name() {
    let bench = bench();
    fs::write(bench.path("text.kiln"), "not a model").expect("written");
    bench.run(&with(&["--from", "text.kiln", "--dataset", "tens"])).fails(1, &["text.kiln"]);
    let mut bytes = fs::read(bench.path("start.kiln")).expect("a model");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(bench.path("bent.kiln"), bytes).expect("written");
    bench.run(&with(&["--from", "bent.kiln", "--dataset", "tens"])).fails(1, &["bent.kiln"]);
    bench.run(&with(&["--from", "missing.kiln", "--dataset", "tens"])).fails(1, &["missing.kiln"]);
    bench.run(&with(&["--dataset", "tens"])).fails(1, &["nothing to fine-tune", "--from"]);
    bench
        .run(&with(&["--from", "start.kiln", "--dataset", "tens", "--freeze", "("]))
        .fails(2, &["finetune.freeze"]);
    bench.run(&["--resume", "--freeze", "features"]).fails(1, &["no unfinished run"]);
}
