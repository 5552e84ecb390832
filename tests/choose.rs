//! Choosing: `compare`, `train --folds`, `sweep`, `lr-find` and `federated`, from outside.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use data::idx::{Content, Idx};
use serde_json::Value;
use support::{Bench, files};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_kiln"))
}

/// A network that learns something in a second.
const SMALL: &[&str] =
    &["--dataset", "mnist-sample", "--set", "network.dense=[]", "--json", "--progress", "none"];

fn train(bench: &Bench, name: &str, more: &[&str]) -> Value {
    bench.json(&[&["train", "--name", name], SMALL, more].concat())
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}

/// Index, target and predicted class of every row of a run's predictions.
fn predictions(bench: &Bench, run: &str) -> Vec<[u32; 3]> {
    let text = fs::read_to_string(bench.path(&format!("{run}/report/predictions.csv"))).expect("predictions");
    text.lines()
        .skip(1)
        .map(|line| {
            let mut numbers = line.split(',').map(|field| field.parse().unwrap_or(u32::MAX));
            std::array::from_fn(|_| numbers.next().expect("a field"))
        })
        .collect()
}

/// IDX files with some images of the sample.
fn write_part(folder: &Path, train: usize, test: usize) {
    let sample = data::load("mnist-sample", &data::Search::default()).expect("the sample");
    fs::create_dir_all(folder).expect("a folder");
    for (prefix, part, count) in [("train", &sample.train, train), ("t10k", &sample.test, test)] {
        let pixels = part.pixels[..count * part.image_len()].to_vec();
        let images = Idx::new(Content::Images, vec![count, part.shape.height, part.shape.width], pixels);
        let labels = Idx::new(
            Content::Labels,
            vec![count],
            part.labels.ones().expect("one class each")[..count].iter().map(|&label| label as u8).collect(),
        );
        for (kind, idx, content) in
            [("images-idx3", &images, Content::Images), ("labels-idx1", &labels, Content::Labels)]
        {
            let mut bytes = Vec::new();
            idx.write(content, &mut bytes).expect("bytes");
            fs::write(folder.join(format!("{prefix}-{kind}-ubyte")), bytes).expect("written");
        }
    }
}

#[test]
fn compared_runs_get_a_paired_test() {
    let bench = bench();
    train(&bench, "long", &["--epochs", "3"]);
    train(&bench, "short", &["--epochs", "1", "--limit", "300"]);
    let compared = bench.json(&["compare", "long", "artifacts/short", "--json"]);
    assert_eq!((&compared["subset"], &compared["images"]), (&"test".into(), &500.into()));
    let pair = &list(&compared["pairs"])[0];

    let (long, short) = (predictions(&bench, "artifacts/long"), predictions(&bench, "artifacts/short"));
    let only = |a: &[[u32; 3]], b: &[[u32; 3]]| {
        a.iter().zip(b).filter(|([_, target, a], [_, _, b])| a == target && b != target).count()
    };
    let (first, second) = (only(&long, &short), only(&short, &long));
    assert_eq!(pair["only_first_right"], first);
    assert_eq!(pair["only_second_right"], second);
    assert!(first > second, "three epochs of 2000 images beat one of 300: {first} {second}");
    let expected = (first as f64 - second as f64) / 500.0;
    assert!((number(&pair["difference"]) - expected).abs() < 1e-12);
    let [long, short] = ["long", "short"].map(|name| {
        let record = read_json(&bench.path(&format!("artifacts/{name}/run.json")));
        number(&record["result"]["test_accuracy"])
    });
    assert!((long - short - expected).abs() < 1e-9, "{long} {short} {expected}");
    assert!(number(&pair["p_value"]) < 0.05, "{pair}");

    train(&bench, "again", &["--epochs", "3"]);
    let words = bench.run(&["compare", "long", "short", "again"]).stdout;
    for word in ["macro F1", "McNemar", "500 test images", "p (Holm)", "artifacts/again", "1.000"] {
        assert!(words.contains(word), "`{word}` is not in:\n{words}");
    }
    let three = bench.json(&["compare", "long", "short", "again", "--json"]);
    assert_eq!(list(&three["pairs"]).len(), 3);
    for pair in list(&three["pairs"]) {
        assert!(number(&pair["p_value_holm"]) >= number(&pair["p_value"]));
    }
}

#[test]
fn runs_that_cannot_be_compared_are_refused() {
    let bench = bench();
    train(&bench, "one", &["--epochs", "1", "--limit", "200"]);
    train(&bench, "two", &["--epochs", "1", "--limit", "200", "--seed", "2"]);
    bench.run(&["compare", "one"]).fails(2, &["2 values required"]);
    bench.run(&["compare", "one", "one"]).fails(2, &["named twice"]);
    bench.run(&["compare", "one", "three"]).fails(1, &["three", "kiln runs"]);
    fs::create_dir(bench.path("two")).expect("a folder with the name of a run");
    assert_eq!(bench.run(&["compare", "one", "two"]).status, 0);

    write_part(&bench.path("part"), 300, 100);
    bench.json(&[
        "train",
        "--dataset",
        "part",
        "--epochs",
        "1",
        "--name",
        "other",
        "--json",
        "--progress",
        "none",
    ]);
    bench.run(&["compare", "one", "other"]).fails(1, &["not the same", "mnist-sample", "part"]);
    train(&bench, "untested", &["--epochs", "1", "--limit", "200", "--set", "test=false"]);
    bench.run(&["compare", "one", "untested"]).fails(1, &["test images", "validation"]);
    train(&bench, "held", &["--epochs", "1", "--limit", "200", "--set", "test=false", "--seed", "5"]);
    bench.run(&["compare", "untested", "held"]).fails(1, &["held back different images"]);

    let path = bench.path("artifacts/two/report/predictions.csv");
    let text = fs::read_to_string(&path).expect("predictions");
    fs::write(&path, &text[..text.len() / 2]).expect("written");
    bench.run(&["compare", "one", "two"]).fails(1, &["predictions.csv", "damaged"]);
    fs::remove_file(&path).expect("removed");
    bench.run(&["compare", "one", "two"]).fails(1, &["predictions.csv", "cannot read"]);
    let path = bench.path("artifacts/two/run.json");
    let text = fs::read_to_string(&path).expect("a record");
    fs::write(&path, text.replace("\"finished\"", "\"interrupted\"")).expect("written");
    bench.run(&["compare", "one", "two"]).fails(1, &["artifacts/two", "not finished", "--resume"]);
}

#[test]
fn folds_hold_back_every_image_once_and_read_no_test() {
    let bench = bench();
    let arguments = ["train", "--name", "cv", "--folds", "3", "--limit", "300", "--epochs", "2"];
    let result = bench.json(&[&arguments[..], SMALL].concat());
    assert_eq!(result, read_json(&bench.path("artifacts/cv/folds.json")));
    let accuracies: Vec<f64> =
        list(&result["runs"]).iter().map(|run| number(&run["valid_accuracy"])).collect();
    assert_eq!(accuracies.len(), 3);
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    let deviation = (accuracies.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    assert!((number(&result["valid_accuracy"]["mean"]) - mean).abs() < 1e-12);
    assert!((number(&result["valid_accuracy"]["deviation"]) - deviation).abs() < 1e-12);

    let mut seen = BTreeSet::new();
    for fold in 1..=3 {
        let run = format!("artifacts/cv/fold-{fold}");
        let held_back = predictions(&bench, &run);
        assert_eq!(held_back.len(), 100);
        seen.extend(held_back.iter().map(|row| row[0]));
        let record = fs::read_to_string(bench.path(&format!("{run}/run.json"))).expect("run.json");
        assert!(!record.contains("test_accuracy") && !record.contains("test_loss"), "{record}");
        let page = fs::read_to_string(bench.path(&format!("{run}/report/index.html"))).expect("a page");
        assert!(page.contains("not read") && page.contains("validation"));
    }
    assert_eq!(seen.len(), 300, "no image is held back twice");
    let words = bench.run(&["train", "--resume", "artifacts/cv", "--progress", "none"]).stdout;
    assert!(words.contains("+-") && words.contains("fold 3") && words.contains("not read"), "{words}");

    let with = |more: &[&'static str]| [&["train"], SMALL, more].concat();
    bench.run(&with(&["--folds", "1"])).fails(2, &["data.folds", "2 to 100"]);
    bench.run(&with(&["--set", "data.folds=3", "--set", "data.fold=4"])).fails(2, &["data.fold"]);
    bench.run(&["train", "--resume", "--folds", "3"]).fails(2, &["--folds", "--resume"]);
}

/// Waits until `done` sees what it waits for, then kills the process.
fn kill_when(mut child: std::process::Child, done: impl Fn() -> bool) {
    while !done() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended before it was killed");
        std::thread::yield_now();
    }
    child.kill().expect("kill -9");
    child.wait().expect("a child");
}

fn finished(bench: &Bench, run: &str) -> bool {
    fs::read_to_string(bench.path(&format!("{run}/run.json"))).is_ok_and(|text| text.contains("\"finished\""))
}

/// A result without its times.
fn timeless(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "seconds" | "train_samples_per_second"))
            .map(|(key, value)| (key.clone(), timeless(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(values) => values.iter().map(timeless).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

#[test]
fn every_fold_starts_from_foreign_weights() {
    let bench = bench();
    train(&bench, "source", &["--epochs", "3"]);
    bench.run(&["export", "--model", "artifacts/source", "--format", "burnpack", "--out", "w.bpk"]);
    let with = |name: &'static str, more: &[&'static str]| {
        let flags = ["train", "--name", name, "--folds", "2", "--limit", "300", "--epochs", "1"];
        number(&bench.json(&[&flags[..], SMALL, more].concat())["valid_accuracy"]["mean"])
    };
    let (scratch, started) = (with("scratch", &[]), with("started", &["--weights", "w.bpk"]));
    assert!(started > scratch + 0.1, "{started} from weights, {scratch} from scratch");
    let config = fs::read_to_string(bench.path("artifacts/started/fold-2/config.toml")).expect("config.toml");
    assert!(config.contains("w.bpk"), "{config}");
}

/// Runs of every kind, and each again from its `config.toml` alone, from another folder: the same weights.
#[test]
fn a_configuration_repeats_its_run() {
    let bench = bench();
    let tiny =
        ["--dataset", "mnist-sample", "--limit", "150", "--epochs", "1", "--progress", "none", "--json"];
    let net = ["--set", "network.dense=[]", "--set", "network.blocks=[{channels=4, kernel=5, stride=3}]"];
    let ran = |arguments: &[&str]| bench.json(&[arguments, &tiny].concat());
    let weights = |run: &str| {
        let record = read_json(&bench.path(&format!("{run}/run.json")));
        record["result"]["weights_sha256"].as_str().expect("a digest").to_owned()
    };
    ran(&[&["train", "--name", "scratch"], &net[..]].concat());
    bench.run(&["export", "--model", "artifacts/scratch", "--format", "burnpack", "--out", "w.bpk"]);
    fs::copy(bench.path("artifacts/scratch/model.kiln"), bench.path("start.kiln")).expect("a copy");
    let foreign = [&["--weights", "w.bpk", "--model", "cnn"], &net[..]].concat();
    ran(&[&["train", "--name", "weights"], &foreign[..]].concat());
    ran(&[&["finetune", "--name", "foreign"], &foreign[..]].concat());
    ran(&[&["finetune", "--name", "kept", "--keep-head"], &foreign[..]].concat());
    let from = ["finetune", "--from", "start.kiln"];
    ran(&[&from[..], &["--name", "frozen", "--freeze", "features"]].concat());
    ran(&[&from[..], &["--name", "head", "--keep-head", "--feature-rate", "0.1"]].concat());
    ran(&[&from[..], &["--name", "both", "--compare-scratch", "--set", "network.dense=[]"]].concat());
    ran(&[&from[..], &["--name", "folds", "--folds", "2", "--layer-decay", "0.5"]].concat());
    let sweep = "strategy = \"grid\"\n[sweep.parameters]\n\"optimizer.learning_rate\" = [1e-3]\n";
    let base = "epochs = 1\n[finetune]\nfrom = \"start.kiln\"\nfreeze = \"features\"\n[data]\ndataset = \"mnist-sample\"\n\
                limit = 150\n[sweep]\n";
    fs::write(bench.path("s.toml"), base.to_owned() + sweep).expect("written");
    bench.json(&["sweep", "s.toml", "--name", "sweep", "--json", "--progress", "none"]);

    fs::create_dir(bench.path("elsewhere")).expect("a folder");
    let again = |command: &str, run: &str, more: &[&str]| {
        let config = format!("../{run}/config.toml");
        let flags = [&[command, "--config", &config, "--json", "--progress", "none"], more].concat();
        let output = bench.command(&flags).current_dir(bench.path("elsewhere")).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flags:?}: {said}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    for (run, finetuned) in [
        ("artifacts/scratch", false),
        ("artifacts/weights", true),
        ("artifacts/foreign", true),
        ("artifacts/kept", true),
        ("artifacts/frozen", true),
        ("artifacts/head", true),
        ("artifacts/both", true),
        ("artifacts/both-scratch", false),
        ("artifacts/folds/fold-2", true),
        ("artifacts/sweep/trial-001", true),
    ] {
        assert_eq!(again("train", run, &[])["weights_sha256"], weights(run), "{run}");
        if finetuned {
            assert_eq!(again("finetune", run, &[])["weights_sha256"], weights(run), "{run}");
        }
    }
    let folds = again("train", "artifacts/folds", &[]);
    for (fold, run) in list(&folds["runs"]).iter().enumerate() {
        assert_eq!(run["weights_sha256"], weights(&format!("artifacts/folds/fold-{}", fold + 1)));
    }
    // What was frozen was frozen again, and what differs is said.
    let frozen = read_json(&bench.path("artifacts/frozen/run.json"));
    assert_ne!(frozen["result"]["weights_sha256"], weights("artifacts/head"));
    let other = again("finetune", "artifacts/frozen", &["--from", "../artifacts/head"]);
    assert_ne!(other["weights_sha256"], weights("artifacts/frozen"), "a flag wins over the file");
    fs::copy(bench.path("artifacts/head/model.kiln"), bench.path("start.kiln")).expect("another model");
    bench
        .run(&["train", "--config", "artifacts/frozen/config.toml", "--name", "changed"])
        .fails(1, &["start.kiln", "was changed", "finetune.from_weights_sha256"]);
    bench
        .run(&["finetune", "--from", "start.kiln", "--set", "network.dropout=0.5"])
        .fails(2, &["network.dropout = 0.5", "starting model"]);
    bench.run(&["train", "--set", "finetune.freeze=features"]).fails(2, &["finetune.from"]);
    assert!(!bench.path("artifacts/changed").exists());
}

#[test]
fn a_killed_cross_validation_goes_on_where_it_was() {
    let bench = bench();
    let arguments = ["train", "--name", "cv", "--folds", "3", "--limit", "300", "--epochs", "3", "--out"];
    let whole = bench.json(&[&arguments[..], &["whole"], SMALL].concat());
    let child = bench.spawn(&[&arguments[..], &["killed"], SMALL].concat());
    kill_when(child, || finished(&bench, "killed/cv/fold-1") && bench.path("killed/cv/fold-2").exists());
    let first = fs::read_to_string(bench.path("killed/cv/fold-1/run.json")).expect("run.json");
    // Without a folder: the newest that is unfinished.
    let resumed = bench.json(&["train", "--resume", "--out", "killed", "--json", "--progress", "none"]);
    let fingerprints = |result: &Value| -> Vec<Value> {
        list(&result["runs"])
            .iter()
            .flat_map(|run| [run["weights_sha256"].clone(), run["optimizer_sha256"].clone()])
            .collect()
    };
    assert_eq!(fingerprints(&resumed), fingerprints(&whole));
    let after = fs::read_to_string(bench.path("killed/cv/fold-1/run.json")).expect("run.json");
    assert_eq!(first, after, "a finished fold is not run again");
}

fn write_sweep(bench: &Bench, name: &str, base: &str, sweep: &str) {
    let text = format!(
        "{base}\n[data]\ndataset = \"mnist-sample\"\nlimit = 300\n[network]\nname = \"cnn\"\ndense = []\n[sweep]\n{sweep}"
    );
    fs::write(bench.path(name), text).expect("written");
}

const QUIET: &[&str] = &["--json", "--progress", "none"];

const RANDOM: &str = "strategy = \"random\"\ntrials = 4\nseed = 5\n[sweep.parameters]\n\
    \"optimizer.learning_rate\" = { log_uniform = [1e-4, 1e-2] }\n\"network.dense\" = { choice = [[], [16]] }\n";

#[test]
fn a_random_sweep_is_repeatable_and_its_winner_trains() {
    let bench = bench();
    write_sweep(&bench, "random.toml", "epochs = 2", RANDOM);
    let sweep = bench.json(&[&["sweep", "random.toml", "--name", "one"], QUIET].concat());
    let trials = list(&sweep["trials"]);
    assert_eq!(trials.len(), 4);
    let accuracy = |trial: &Value| number(&trial["valid_accuracy"]["mean"]);
    let best = trials.iter().find(|trial| trial["number"] == sweep["best"]).expect("a winner");
    assert!(trials.iter().all(|trial| accuracy(trial) <= accuracy(best)), "{sweep}");
    let again = bench.json(&[&["sweep", "random.toml", "--name", "two"], QUIET].concat());
    let strip = |sweep: &Value| {
        let text = timeless(&sweep["trials"]).to_string();
        text.replace("artifacts/one", "").replace("artifacts/two", "")
    };
    assert_eq!(strip(&again), strip(&sweep));

    let found = files(&bench.path("artifacts/one"));
    for name in ["sweep.toml", "sweep.json", "best.toml", "report/sweep.svg", "report/sweep.png"] {
        assert!(found.iter().any(|file| file == name), "{name} is missing from {found:?}");
    }
    for trial in 1..=4 {
        let record = fs::read_to_string(bench.path(&format!("artifacts/one/trial-00{trial}/run.json")));
        let record = record.expect("run.json");
        assert!(!record.contains("test_accuracy") && record.contains("\"test\": 0"), "{record}");
    }
    let winner =
        bench.json(&[&["train", "--config", "artifacts/one/best.toml", "--name", "final"], QUIET].concat());
    assert!(number(&winner["test_accuracy"]) > 0.1);
    let run = best["run"].as_str().expect("a folder");
    let trial = read_json(&bench.path(&format!("{run}/run.json")));
    assert_eq!(trial["result"]["weights_sha256"], winner["weights_sha256"], "the same run, but for the test");

    // Nothing is run again.
    let resumed = bench.json(&[&["sweep", "--resume", "artifacts/one"], QUIET].concat());
    assert_eq!(resumed, sweep);
    let words = bench.run(&["sweep", "--resume", "artifacts/one", "--progress", "none"]).stdout;
    for word in ["optimizer.learning_rate", "network.dense", "best", "no trial has read the test split"] {
        assert!(words.contains(word), "`{word}` is not in:\n{words}");
    }
}

#[test]
fn a_killed_sweep_goes_on_where_it_was() {
    let bench = bench();
    write_sweep(&bench, "random.toml", "epochs = 2", RANDOM);
    let arguments = ["sweep", "random.toml", "--name", "s", "--out"];
    let whole = bench.json(&[&arguments[..], &["whole"], QUIET].concat());
    let child = bench.spawn(&[&arguments[..], &["killed"], QUIET].concat());
    kill_when(child, || finished(&bench, "killed/s/trial-002") && bench.path("killed/s/trial-003").exists());
    let second = fs::read_to_string(bench.path("killed/s/trial-002/run.json")).expect("run.json");
    bench.run(&["sweep", "--resume", "killed"]).fails(1, &["killed", "sweep.toml"]);
    let resumed = bench.json(&[&["sweep", "--resume", "killed/s"], QUIET].concat());
    let after = fs::read_to_string(bench.path("killed/s/trial-002/run.json")).expect("run.json");
    assert_eq!(second, after, "a finished trial is not run again");
    let strip = |sweep: &Value| timeless(sweep).to_string().replace("whole/", "").replace("killed/", "");
    assert_eq!(strip(&resumed), strip(&whole));
}

#[test]
fn halving_prolongs_a_trial_where_its_schedule_permits() {
    let bench = bench();
    let halving = "strategy = \"halving\"\ntrials = 4\nepochs = 4\n[sweep.parameters]\n\
                   \"optimizer.learning_rate\" = { log_uniform = [1e-5, 1e-2] }\n";
    write_sweep(&bench, "constant.toml", "schedule = { name = \"constant\", warmup_epochs = 0.5 }", halving);
    let sweep = bench.json(&[&["sweep", "constant.toml", "--name", "c"], QUIET].concat());
    let rounds: Vec<(u64, u64)> = list(&sweep["rungs"])
        .iter()
        .map(|rung| (rung["trials"].as_u64().expect("a number"), rung["epochs"].as_u64().expect("a number")))
        .collect();
    assert_eq!(rounds, [(4, 1), (2, 2), (1, 4)]);
    let mut budgets: Vec<u64> =
        list(&sweep["trials"]).iter().map(|trial| trial["budget"].as_u64().expect("a number")).collect();
    budgets.sort_unstable();
    assert_eq!(budgets, [1, 1, 2, 4]);
    let best =
        list(&sweep["trials"]).iter().find(|trial| trial["number"] == sweep["best"]).expect("a winner");
    assert_eq!(best["budget"], 4);
    let run = best["run"].as_str().expect("a folder");
    let folders = fs::read_dir(bench.path("artifacts/c")).expect("a folder").flatten();
    let folders = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("trial-")).count();
    assert_eq!(folders, 4, "every trial went on in its folder");

    // One epoch, then two, then four is the same as four at once, bit for bit.
    let straight =
        bench.json(&[&["train", "--config", "artifacts/c/best.toml", "--name", "straight"], QUIET].concat());
    let prolonged = &read_json(&bench.path(&format!("{run}/run.json")))["result"];
    for key in ["weights_sha256", "last_weights_sha256", "optimizer_sha256", "valid_accuracy", "epochs"] {
        assert_eq!(prolonged[key], straight[key], "{key}");
    }

    // A cosine over one epoch is not the beginning of a cosine over four: these begin anew.
    write_sweep(&bench, "cosine.toml", "schedule = { name = \"cosine\", warmup_epochs = 0.0 }", halving);
    let sweep = bench.json(&[&["sweep", "cosine.toml", "--name", "r"], QUIET].concat());
    let best =
        list(&sweep["trials"]).iter().find(|trial| trial["number"] == sweep["best"]).expect("a winner");
    assert!(best["run"].as_str().expect("a folder").ends_with("-round-3"), "{best}");
    let straight =
        bench.json(&[&["train", "--config", "artifacts/r/best.toml", "--name", "fresh"], QUIET].concat());
    let trial = read_json(&bench.path(&format!("{}/run.json", best["run"].as_str().expect("a folder"))));
    assert_eq!(trial["result"]["weights_sha256"], straight["weights_sha256"]);
}

#[test]
fn a_grid_with_folds_survives_a_diverging_trial() {
    let bench = bench();
    let grid = "strategy = \"grid\"\nfolds = 2\n[sweep.parameters]\n\
                \"optimizer.learning_rate\" = [1e30, 3e-3]\n\"network.batch_norm\" = [false]\n";
    write_sweep(&bench, "grid.toml", "epochs = 1", grid);
    let sweep = bench.json(&[&["sweep", "grid.toml", "--name", "g"], QUIET].concat());
    let trials = list(&sweep["trials"]);
    assert_eq!((&trials[0]["status"], &trials[1]["status"]), (&"diverged".into(), &"finished".into()));
    assert!(trials[0]["error"].as_str().expect("a message").contains("diverged"));
    assert_eq!(sweep["best"], 2);
    let folds = read_json(&bench.path("artifacts/g/trial-002/folds.json"));
    assert_eq!(folds["valid_accuracy"], trials[1]["valid_accuracy"]);
    let best = fs::read_to_string(bench.path("artifacts/g/best.toml")).expect("best.toml");
    assert!(!best.contains("folds") && !best.contains("test ="), "{best}");
    let words = bench.run(&["sweep", "--resume", "artifacts/g", "--progress", "none"]).stdout;
    assert!(words.contains("diverged") && words.contains("+-"), "{words}");

    let all = "strategy = \"grid\"\n[sweep.parameters]\n\"optimizer.learning_rate\" = [1e30, 1e31]\n";
    write_sweep(&bench, "all.toml", "epochs = 1", all);
    bench.run(&[&["sweep", "all.toml"], QUIET].concat()).fails(1, &["all 2 trials diverged"]);
}

#[test]
fn a_bad_sweep_is_refused_before_anything_is_trained() {
    let bench = bench();
    let refused = |sweep: &str, status: i32, words: &[&str]| {
        write_sweep(&bench, "bad.toml", "epochs = 1", sweep);
        bench.run(&["sweep", "bad.toml"]).fails(status, words);
    };
    let parameter = "[sweep.parameters]\nbatch_size = [16, 32]\n";
    refused(&format!("strategy = \"annealing\"\n{parameter}"), 2, &["annealing", "halving"]);
    refused(&format!("strategy = \"random\"\n{parameter}"), 2, &["sweep.trials"]);
    refused(&format!("strategy = \"grid\"\ntrials = 3\n{parameter}"), 2, &["sweep.trials"]);
    refused(&format!("strategy = \"random\"\ntrials = 0\n{parameter}"), 2, &["sweep.trials", "1 to 1000"]);
    refused(&format!("strategy = \"grid\"\neta = 3\n{parameter}"), 2, &["sweep.eta"]);
    refused(&format!("strategy = \"grid\"\nfolds = 1\n{parameter}"), 2, &["sweep.folds"]);
    refused(&format!("strategy = \"grid\"\nepochs = 0\n{parameter}"), 2, &["sweep.epochs"]);
    refused(
        &format!("strategy = \"halving\"\ntrials = 2\nmin_epochs = 9\n{parameter}"),
        2,
        &["sweep.min_epochs"],
    );
    refused(&format!("strategy = \"grid\"\ntrails = 3\n{parameter}"), 2, &["trails"]);
    refused(&format!("strategy = \"grid\"\nbase = \"none.toml\"\n{parameter}"), 2, &["none.toml"]);
    refused("strategy = \"grid\"\n[sweep.parameters]\n", 2, &["sweep.parameters"]);
    refused("strategy = \"grid\"\n[sweep.parameters]\nbatch_sise = [1, 2]\n", 2, &["batch_sise"]);
    refused("strategy = \"grid\"\n[sweep.parameters]\nbatch_size = [16, 0]\n", 2, &["trial 2", "batch_size"]);
    refused("strategy = \"grid\"\n[sweep.parameters]\nseed = [1, 2]\n", 2, &["seed", "cannot be varied"]);
    let kernel =
        "strategy = \"grid\"\n[sweep.parameters]\n\"network.blocks\" = [[{ channels = 4, kernel = 40 }]]\n";
    refused(kernel, 2, &["trial 1", "blocks.0", "40"]);
    fs::write(bench.path("plain.toml"), "epochs = 1\n").expect("written");
    bench.run(&["sweep", "plain.toml"]).fails(2, &["plain.toml", "[sweep]"]);
    bench.run(&["sweep", "missing.toml"]).fails(2, &["missing.toml"]);
    write_sweep(&bench, "good.toml", "epochs = 1", &format!("strategy = \"grid\"\n{parameter}"));
    bench
        .run(&["sweep", "good.toml", "--dataset", "photos"])
        .fails(2, &["--dataset photos", "--resume", "--set data.dataset=photos"]);
    bench.run(&["sweep"]).fails(2, &["FILE"]);
    bench.run(&["sweep", "--resume", "nowhere", "--out", "x"]).fails(2, &["--resume", "--out"]);
    bench.run(&["sweep", "--resume", "nowhere"]).fails(1, &["nowhere", "sweep.toml"]);
    assert!(!bench.path("artifacts").exists(), "nothing is left of a sweep that never began");
}

#[test]
fn a_base_configuration_lies_under_the_sweep() {
    let bench = bench();
    fs::create_dir(bench.path("configs")).expect("a folder");
    fs::write(bench.path("configs/base.toml"), "epochs = 9\n[optimizer]\nname = \"sgd\"\nmomentum = 0.5\n")
        .expect("written");
    let sweep =
        "base = \"base.toml\"\nstrategy = \"grid\"\n[sweep.parameters.optimizer]\nlearning_rate = [0.05]\n";
    write_sweep(&bench, "configs/s.toml", "epochs = 1", sweep);
    let result =
        bench.json(&[&["sweep", "configs/s.toml", "--name", "b", "--set", "batch_size=64"], QUIET].concat());
    assert_eq!(list(&result["trials"]).len(), 1);
    let best = fs::read_to_string(bench.path("artifacts/b/best.toml")).expect("best.toml");
    for line in ["epochs = 1", "name = \"sgd\"", "momentum = 0.5", "learning_rate = 0.05", "batch_size = 64"]
    {
        assert!(best.contains(line), "`{line}` is not in:\n{best}");
    }
}

#[test]
fn lr_find_suggests_a_rate_that_trains() {
    let bench = bench();
    let arguments = ["lr-find", "--dataset", "mnist-sample", "--set", "network.dense=[]", "--steps", "100"];
    let found = bench.json(&[&arguments[..], &["--name", "rates"], QUIET].concat());
    let suggestion = number(&found["suggestion"]);
    assert!((1e-5..0.1).contains(&suggestion), "{suggestion}");
    let points = list(&found["points"]);
    assert!(points.len() > 20 && points.len() <= 100);
    assert!(points.windows(2).all(|pair| number(&pair[0]["rate"]) < number(&pair[1]["rate"])));
    assert!((suggestion * 10.0 / number(&found["least"]) - 1.0).abs() < 1e-9, "{found}");
    assert!(number(&found["least"]) < number(&found["diverged"]), "{found}");
    assert_eq!(
        files(&bench.path("artifacts/rates")),
        [".lock", "config.toml", "lr-find.json", "report/lr-find.png", "report/lr-find.svg"]
    );
    let rate = suggestion.to_string();
    let trained = train(&bench, "with", &["--epochs", "3", "--learning-rate", &rate]);
    assert!(number(&trained["test_accuracy"]) > 0.5, "{trained}");
    let again = bench.json(&[&arguments[..], QUIET].concat());
    assert_eq!(again["points"], found["points"], "the same configuration gives the same curve");

    let with = |more: &[&'static str]| [&["lr-find", "--dataset", "mnist-sample"], more].concat();
    bench.run(&with(&["--low", "0"])).fails(2, &["--low"]);
    bench.run(&with(&["--high", "1e-9"])).fails(2, &["--high"]);
    bench.run(&with(&["--steps", "3"])).fails(2, &["--steps"]);
    bench.run(&with(&["--folds", "3"])).fails(2, &["--folds"]);
    bench.run(&with(&["--checkpoint-every", "5"])).fails(2, &["--checkpoint-every"]);
    bench.run(&with(&["--resume"])).fails(2, &["--resume"]);
}

#[test]
fn federated_nodes_learn_together() {
    let bench = bench();
    let arguments =
        ["federated", "--nodes", "3", "--rounds", "3", "--local-epochs", "2", "--batch-size", "32"];
    let result = bench.json(&[&arguments[..], SMALL, &["--limit", "900"]].concat());
    let accuracies = list(&result["valid_accuracy"]);
    assert_eq!((accuracies.len(), list(&result["shards"]).len()), (3, 3));
    assert!(number(&accuracies[2]) > 0.6 && number(&accuracies[2]) > number(&accuracies[0]), "{result}");
    bench.run(&["federated", "--nodes", "0"]).fails(2, &["--nodes"]);
    bench.run(&["federated", "--epochs", "3"]).fails(2, &["--epochs", "--rounds"]);
    bench.run(&["federated", "--checkpoint-every", "3"]).fails(2, &["--checkpoint-every"]);
    bench
        .run(&["federated", "--dataset", "mnist-sample", "--limit", "100", "--nodes", "500"])
        .fails(1, &["90 images to train on cannot be dealt to 500 nodes"]);
    assert!(!bench.path("artifacts").exists(), "nothing is written");
}
