//! The command `finetune`, from outside.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;

use data::idx::{Content, Idx};
use serde_json::Value;
use support::Bench;
use train::config::arguments::{CommonArguments, TrainArguments};

/// A bench with a trained model at `start.kiln`, and folders of IDX files made from the sample:
/// `quarters` has four classes (label modulo 4), `tens` all ten.
fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_finetune"));
    train_start(&bench, "plain", &[]);
    fs::copy(bench.path("elsewhere/plain/model.kiln"), bench.path("start.kiln")).expect("a model");
    let sample = data::load("mnist-sample", &data::Search::default()).expect("the sample");
    write_idx(&bench.path("tens"), &sample, |label| label);
    write_idx(&bench.path("quarters"), &sample, |label| label % 4);
    bench
}

/// Trains a model to start from.
fn train_start(bench: &Bench, name: &str, set: &[&str]) {
    let arguments = TrainArguments {
        common: CommonArguments {
            dataset: Some("mnist-sample".to_owned()),
            epochs: Some(4),
            learning_rate: Some(3e-3),
            set: set.iter().map(|&set| set.to_owned()).collect(),
            out: bench.path("elsewhere"),
            name: Some(name.to_owned()),
            progress: Some(train::config::arguments::ProgressMode::None),
            ..CommonArguments::default()
        },
        model: None,
        weights: None,
        allow_mismatch: false,
    };
    let config = arguments.config().expect("a configuration");
    let start = train::start::Start::Scratch;
    train::command::run_silently("train", &config, start, &arguments.common).expect("a trained model");
}

fn write_idx(folder: &Path, pair: &data::DatasetPair, relabel: impl Fn(u32) -> u32) {
    fs::create_dir_all(folder).expect("a folder");
    for (prefix, part) in [("train", &pair.train), ("t10k", &pair.test)] {
        let dimensions = vec![part.len(), part.shape.height, part.shape.width];
        let images = Idx::new(Content::Images, dimensions, part.pixels.clone());
        let labels: Vec<u8> = part.labels.iter().map(|label| relabel(label[0]) as u8).collect();
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
fn unfrozen_features_and_a_rate_of_their_own_move() {
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

/// Batch normalisation takes part in what is frozen: its running statistics stay, too.
#[test]
fn frozen_batch_normalisation_keeps_its_statistics() {
    let bench = bench();
    train_start(&bench, "normed", &["network.batch_norm=true", "epochs=1"]);
    let start = bench.path("elsewhere/normed/model.kiln");
    let from = start.display().to_string();
    let tune = |name: &str, freeze: &str| {
        bench.json(&with(&["--from", &from, "--dataset", "quarters", "--freeze", freeze, "--name", name]));
        changed(&start, &bench.path(&format!("artifacts/{name}/model.kiln")))
    };
    let frozen = tune("frozen", "features");
    assert!(frozen.iter().any(|name| name.starts_with("head.")), "{frozen:?}");
    assert!(frozen.iter().all(|name| !name.starts_with("blocks.")), "{frozen:?}");
    let free = tune("free", "none");
    for name in ["blocks.0.norm.running_mean", "blocks.1.norm.running_var", "blocks.0.norm.gamma"] {
        assert!(free.iter().any(|changed| changed == name), "{name} moves when nothing is frozen: {free:?}");
    }
    let half = tune("half", r"blocks\.0\.");
    assert!(half.iter().all(|name| !name.starts_with("blocks.0.")), "{half:?}");
    assert!(half.iter().any(|name| name == "blocks.1.norm.running_mean"), "{half:?}");
}

#[test]
fn layer_groups_are_unfrozen_one_after_the_other() {
    let bench = bench();
    let result = bench.json(&with(&[
        "--from",
        "start.kiln",
        "--dataset",
        "quarters",
        "--freeze",
        "features",
        "--unfreeze-at",
        "2,3",
        "--name",
        "staged",
    ]));
    assert_eq!(
        result["best_epoch"], 2,
        "the second epoch is the better one, or this shows nothing: {result}"
    );
    let changed = changed(&bench.path("start.kiln"), &bench.path("artifacts/staged/model.kiln"));
    assert!(changed.iter().any(|name| name == "blocks.1.conv.weight"), "unfrozen in epoch 2: {changed:?}");
    assert!(changed.iter().all(|name| !name.starts_with("blocks.0.")), "frozen up to epoch 3: {changed:?}");
    let config = fs::read_to_string(bench.path("artifacts/staged/config.toml")).expect("config.toml");
    assert!(config.contains("unfreeze_at = [2, 3]"), "{config}");

    let run = |more: &[&'static str]| {
        bench.run(&with(&[&["--from", "start.kiln", "--dataset", "quarters"], more].concat()))
    };
    run(&["--unfreeze-at", "3,2"]).fails(2, &["finetune.unfreeze_at", "[3, 2]"]);
    run(&["--unfreeze-at", "soon"]).fails(2, &["soon", "2,4,6"]);
    run(&["--freeze", "features", "--unfreeze-at", "0"]).fails(2, &["counted from 1", "leave the flag out"]);
    run(&["--freeze", "none", "--unfreeze-at", "2"]).fails(2, &["finetune.unfreeze_at = 2", "--freeze"]);
    for never in ["5", "5,6"] {
        run(&["--freeze", "features", "--unfreeze-at", never])
            .fails(2, &["finetune.unfreeze_at = 5 with epochs =", "raise --epochs"]);
    }
    let pattern = run(&["--freeze", "["]);
    pattern.fails(2, &["finetune.freeze = [", "unclosed character class"]);
    assert!(!pattern.stderr.contains("InvalidPattern"), "{}", pattern.stderr);
    run(&["--freeze", "features", "--unfreeze-at", "1,2,3"]).fails(2, &["3 epochs", "blocks.1, blocks.0"]);
    run(&["--freeze", "layer4"]).fails(2, &["layer4", "matches no parameter"]);
    run(&["--freeze", ".*", "--name", "stuck"]).fails(2, &["nothing to train"]);
    assert!(!bench.path("artifacts/stuck").exists());
    run(&["--layer-decay", "0"]).fails(2, &["finetune.layer_decay"]);
    run(&["--layer-decay", "1.5"]).fails(2, &["finetune.layer_decay"]);
}

#[test]
fn rates_decay_from_the_head_down() {
    let bench = bench();
    let moved = |name: &str, more: &[&str]| {
        let mut arguments = with(&["--from", "start.kiln", "--dataset", "quarters", "--name", name]);
        arguments.extend(more);
        bench.json(&arguments);
        let before = tensors(&bench.path("start.kiln"));
        let after = tensors(&bench.path(&format!("artifacts/{name}/model.kiln")));
        ["blocks.0.conv.weight", "blocks.1.conv.weight", "dense.0.weight"].map(|name| {
            let values = |tensors: &[(String, Vec<f32>)]| {
                tensors.iter().find(|(found, _)| found == name).expect("a weight").1.clone()
            };
            let (before, after) = (values(&before), values(&after));
            before.iter().zip(&after).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        })
    };
    let (even, decayed) = (moved("even", &[]), moved("decayed", &["--layer-decay", "0.2"]));
    let ratios: Vec<f64> = even.iter().zip(&decayed).map(|(even, decayed)| decayed / even).collect();
    assert!(ratios.windows(2).all(|pair| pair[0] < pair[1] / 2.0), "the deeper, the slower: {ratios:?}");
    assert!(ratios[2] < 0.6, "{ratios:?}");
}

#[test]
fn limits_warm_up_early_stopping_and_folds_work_as_in_training() {
    let bench = bench();
    let arguments = |more: &[&'static str]| {
        with(&[&["--from", "start.kiln", "--dataset", "quarters", "--limit-per-class", "30"], more].concat())
    };
    let stopped = bench.json(&arguments(&[
        "--name",
        "stopped",
        "--set",
        "epochs=9",
        "--set",
        "early_stopping.patience=1",
        "--set",
        "early_stopping.min_delta=10",
        "--set",
        "schedule.name=\"constant\"",
        "--set",
        "schedule.warmup_epochs=1.5",
        "--learning-rate",
        "0.004",
        "--valid-fraction",
        "0.2",
        "--batch-size",
        "17",
    ]));
    assert_eq!(stopped["epochs"], 2);
    let record = fs::read_to_string(bench.path("artifacts/stopped/run.json")).expect("run.json");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!((&record["images"]["train"], &record["images"]["valid"]), (&102.into(), &18.into()));
    let metrics = fs::read_to_string(bench.path("artifacts/stopped/metrics.jsonl")).expect("metrics");
    let rates: Vec<f64> = metrics
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).expect("a record")["learning_rate"]
                .as_f64()
                .expect("a number")
        })
        .collect();
    // Six updates an epoch: the sixth of nine warming up, then the full rate.
    assert!((rates[0] - 0.004 * 6.0 / 9.0).abs() < 1e-9 && (rates[1] - 0.004).abs() < 1e-9, "{rates:?}");

    let folds = bench.json(&arguments(&["--folds", "2", "--name", "cv", "--freeze", "features"]));
    assert_eq!(folds["runs"].as_array().expect("a list").len(), 2);
    for fold in 1..=2 {
        let model = bench.path(&format!("artifacts/cv/fold-{fold}/model.kiln"));
        let changed = changed(&bench.path("start.kiln"), &model);
        assert!(
            !changed.is_empty() && changed.iter().all(|name| !name.starts_with("blocks.")),
            "{changed:?}"
        );
    }
    bench.run(&arguments(&["--limit", "50"])).fails(2, &["data.limit_per_class", "only one"]);
}

/// The head goes with the names of the classes, whatever their order and number.
#[test]
fn a_kept_head_follows_the_names_of_the_classes() {
    let bench = bench();
    let names = |folder: &str, names: &[&str]| {
        fs::write(bench.path(&format!("{folder}/classes.txt")), names.join("\n")).expect("written");
    };
    let tune = |dataset: &str, name: &str| {
        let rate = ["--epochs", "1", "--learning-rate", "1e-9", "--json", "--progress", "none"];
        let flags = ["--from", "start.kiln", "--keep-head", "--dataset", dataset, "--name", name];
        let result = bench.json(&[&rate[..], &flags].concat());
        let record = fs::read_to_string(bench.path(&format!("artifacts/{name}/run.json"))).expect("run.json");
        let record: Value = serde_json::from_str(&record).expect("JSON");
        (result["test_accuracy"].as_f64().expect("a number"), record["head"].clone())
    };
    let (accuracy, head) = tune("tens", "same");
    assert!(accuracy > 0.8, "{accuracy}");
    assert_eq!(head["kept"].as_array().map(Vec::len), Some(10));

    // The same digits, numbered from the other end.
    let sample = data::load("mnist-sample", &data::Search::default()).expect("the sample");
    write_idx(&bench.path("turned"), &sample, |label| 9 - label);
    names("turned", &["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]);
    assert!((tune("turned", "turned").0 - accuracy).abs() < 0.01);

    // Labels modulo 4 are the digits' own names for 0 to 3; one class is new.
    names("quarters", &["0", "1", "x", "3"]);
    let (_, head) = tune("quarters", "some");
    assert_eq!(
        (&head["kept"], &head["new"]),
        (&serde_json::json!(["0", "1", "3"]), &serde_json::json!(["x"]))
    );
    assert_eq!(head["dropped"].as_array().map(Vec::len), Some(7));

    names("tens", &["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]);
    let words = with(&["--from", "start.kiln", "--dataset", "tens", "--keep-head", "--name", "words"]);
    bench.run(&words).fails(1, &["zero, one", "0, 1, 2", "matched by their names"]);
    assert!(!bench.path("artifacts/words").exists());
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
    // Without any model here, the one inside the program is the start.
    let ran = bench.run(&with(&["--dataset", "tens", "--name", "inside"]));
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let config = fs::read_to_string(bench.path("artifacts/inside/config.toml")).expect("a configuration");
    assert!(config.contains("artifacts/reference"), "{config}");
    bench
        .run(&with(&["--from", "start.kiln", "--dataset", "tens", "--freeze", "("]))
        .fails(2, &["finetune.freeze"]);
    bench.run(&["--resume", "--freeze", "features"]).fails(1, &["no unfinished run"]);
}

#[test]
fn flags_that_would_mean_nothing_are_refused() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_finetune"));
    let fails = |flags: &[&str], words: &[&str]| bench.run(flags).fails(2, words);
    fails(&["--from", "start.kiln", "--model", "resnet20"], &["--model", "--from"]);
    fails(&["--from", "start.kiln", "--allow-mismatch"], &["--allow-mismatch", "--from"]);
    fails(&["--resume", "run", "--model", "resnet20"], &["--model", "--resume"]);
    fails(&["--resume", "run", "--allow-mismatch"], &["--allow-mismatch", "--resume"]);
    fails(&["--dataset", "mnist-sample", "--unfreeze-at", "2"], &["finetune.unfreeze_at = 2", "--freeze"]);
    fails(&["--layer-decay", "-1"], &["finetune.layer_decay = -1"]);
}
