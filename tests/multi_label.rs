//! Several labels a picture, from outside and all the way: a list, training, evaluation, answers, exports, fine-tuning to
//! and from one class a picture, and the server.

#[path = "support/mod.rs"]
mod support;

#[path = "support/server.rs"]
mod server;

use std::fs;

use serde_json::Value;
use server::{Server, png};
use support::Bench;

const SHAPES: [&str; 3] = ["bar", "circle", "square"];
const PICTURES: usize = 240;

/// The next of a row of numbers without a pattern (Knuth's multiplier, modulo 2^64).
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// A grey picture with noise and some of the shapes at random places, and which they are.
fn draw(state: &mut u64) -> (Vec<u8>, Vec<&'static str>) {
    let mut pixels: Vec<u8> = (0..28 * 28).map(|_| (next(state) % 40) as u8).collect();
    let shapes: Vec<&str> = SHAPES.into_iter().filter(|_| next(state).is_multiple_of(2)).collect();
    for shape in &shapes {
        let (x, y) = (6 + (next(state) % 16) as i32, 6 + (next(state) % 16) as i32);
        for (at, pixel) in pixels.iter_mut().enumerate() {
            let (dx, dy) = (at as i32 % 28 - x, at as i32 / 28 - y);
            let is_on = match *shape {
                "bar" => (dx - dy).abs() <= 1 && dx.abs() <= 6,
                "circle" => (9..=20).contains(&(dx * dx + dy * dy)),
                _ => dx.abs().max(dy.abs()) == 4,
            };
            if is_on {
                *pixel = 220;
            }
        }
    }
    (pixels, shapes)
}

/// Pictures with `several.csv`, `columns.csv` (the same labels as 0 and 1) and `single.csv` (pictures of one shape alone).
fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let mut state = 7;
    let mut lists =
        ["path,split,labels\n", "path,split,bar,circle,square\n", "path,label\n"].map(String::from);
    for number in 0..PICTURES {
        let (pixels, shapes) = draw(&mut state);
        let name = format!("{number}.png");
        fs::write(bench.path(&name), png(&pixels)).expect("written");
        let split = ["train", "train", "train", "valid", "test"][number % 5];
        lists[0] += &format!("{name},{split},{}\n", shapes.join(";"));
        let flags = SHAPES.map(|shape| u8::from(shapes.contains(&shape)).to_string());
        lists[1] += &format!("{name},{split},{}\n", flags.join(","));
        if let [only] = shapes[..] {
            lists[2] += &format!("{name},{only}\n");
        }
    }
    for (name, list) in ["several.csv", "columns.csv", "single.csv"].iter().zip(lists) {
        fs::write(bench.path(name), list).expect("written");
    }
    bench
}

fn train(bench: &Bench, arguments: &[&str]) -> Value {
    let common = ["--json", "--progress", "none", "--threads", "1", "--batch-size", "8"];
    bench.json(&[arguments, &common].concat())
}

/// The test images with their labels, as the list has them.
fn tested(bench: &Bench) -> Vec<(String, String)> {
    let list = fs::read_to_string(bench.path("several.csv")).expect("the list");
    let rows = list.lines().filter_map(|line| line.split_once(",test,"));
    rows.map(|(name, labels)| (name.to_owned(), labels.to_owned())).collect()
}

#[test]
fn several_labels_a_picture_go_all_the_way() {
    let bench = bench();
    let result = train(&bench, &["train", "--dataset", "several.csv", "--epochs", "3", "--name", "first"]);
    let figures = &result["multi_label"];
    let figure = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("no {name} in {result}"));
    // By chance it is the share of the class, one half.
    assert!(figure("mean_average_precision") > 0.75, "{result}");
    assert!(figure("micro_f1") > 0.6 && figure("macro_f1") > 0.6, "{result}");
    assert_eq!(
        (figures["subset"].as_str(), result["test_accuracy"].as_f64()),
        (Some("test"), Some(figure("subset_accuracy")))
    );
    let record: Value =
        serde_json::from_slice(&fs::read(bench.path("artifacts/first/run.json")).expect("a record"))
            .expect("JSON");
    assert_eq!(record["task"], "multi-label");
    for file in ["index.html", "curves.svg", "predictions.csv", "evaluation.json"] {
        assert!(bench.path("artifacts/first/report").join(file).exists(), "{file}");
    }
    let metrics = fs::read_to_string(bench.path("artifacts/first/metrics.jsonl")).expect("metrics");
    assert!(
        metrics.lines().count() == 3 && metrics.contains("\"valid_mean_average_precision\":0."),
        "{metrics}"
    );

    // A column for each class is the same data.
    for dataset in [&[][..], &["--dataset", "columns.csv"]] {
        let arguments =
            [&["evaluate", "--model", "artifacts/first", "--json", "--threads", "1"], dataset].concat();
        let evaluated = bench.json(&arguments);
        for name in ["mean_average_precision", "micro_f1", "macro_f1", "subset_accuracy"] {
            assert_eq!(evaluated[name], figures[name], "{name}");
        }
        assert_eq!(evaluated["per_class"], figures["per_class"]);
    }
    let table = bench.run(&["evaluate", "--model", "artifacts/first"]).stdout;
    assert!(
        table.contains("mAP") && table.contains("threshold") && !table.contains("true \\ predicted"),
        "{table}"
    );

    // What is predicted is what was evaluated.
    let tested = tested(&bench);
    let names: Vec<&str> = tested.iter().map(|(name, _)| name.as_str()).collect();
    let predicted = bench.run(&[&["predict", "--model", "artifacts/first", "--json"], &names[..]].concat());
    let answers: Vec<Value> =
        predicted.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let right =
        answers.iter().zip(&tested).filter(|(answer, (_, labels))| answer["label"] == labels.as_str());
    let right = right.count() as f64 / tested.len() as f64;
    assert!((right - figure("subset_accuracy")).abs() < 1e-9, "{right}");
    for answer in &answers {
        let labels = answer["labels"].as_array().expect("labels");
        let label = answer["label"].as_str().expect("a text");
        assert_eq!(labels.len(), label.split(';').filter(|name| !name.is_empty()).count(), "{answer}");
        assert!(
            labels.iter().all(|class| label.contains(class["label"].as_str().expect("a name"))),
            "{answer}"
        );
        assert_eq!(answer["top"].as_array().map(Vec::len), Some(3));
    }
    let csv = bench.run(&[&["predict", "--model", "artifacts/first", "--csv"], &names[..3]].concat()).stdout;
    assert!(
        csv.starts_with("path,labels,probabilities,probability,rejected\n") && csv.lines().count() == 4,
        "{csv}"
    );

    // The server answers as `predict` does.
    let server = Server::start_model(&bench, "artifacts/first", &[], &[]);
    let client = server.client();
    let model = client.get("/v1/model").json();
    assert_eq!(
        (model["task"]["name"].as_str(), model["task"]["thresholds"].as_array().map(Vec::len)),
        (Some("multi-label"), Some(3))
    );
    let picture = fs::read(bench.path(&tested[0].0)).expect("a picture");
    let answer = client.post("/v1/predict", "image/png", &picture).json();
    for key in ["label", "labels", "probability", "top"] {
        assert_eq!(answer["predictions"][0][key], answers[0][key], "{key}: {answer}");
    }
    client.post("/v1/predict?keep=0.9", "image/png", &picture).is_problem(400, &["keep", "multi-label"]);
    client.post("/v1/predict?digits=true", "image/png", &picture).is_problem(400, &["digits", "multi-label"]);

    // Every export says how its logits are meant.
    for (format, file, words) in [
        ("onnx", "m.onnx", &["Sigmoid", "thresholds", "sigmoid(logits / temperature)"][..]),
        ("c-header", "m.h", &["kiln_labels", "kiln_thresholds[KILN_CLASSES]"]),
        ("safetensors", "m.safetensors", &["thresholds", "multi-label", "sigmoid"]),
    ] {
        let ran = bench.run(&["export", "--model", "artifacts/first", "--format", format, "--out", file]);
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let bytes = fs::read(bench.path(file)).expect("the export");
        let text = String::from_utf8_lossy(&bytes);
        for word in words {
            assert!(text.contains(word), "`{word}` is not in the {format}");
        }
        assert!(!text.contains("softmax") && !text.contains("Softmax"), "{format}");
    }
}

#[test]
fn features_go_from_one_task_to_the_other_and_what_has_no_meaning_is_refused() {
    let bench = bench();
    train(&bench, &["train", "--dataset", "several.csv", "--epochs", "1", "--name", "several"]);
    let start = |from: &str| format!("artifacts/{from}");
    let finetune = |from: &str, dataset: &str, name: &str| {
        train(
            &bench,
            &["finetune", "--from", &start(from), "--dataset", dataset, "--epochs", "1", "--name", name],
        )
    };
    let single = finetune("several", "single.csv", "single");
    assert_eq!((&single["multi_label"], single["baseline_accuracy"].is_number()), (&Value::Null, true));
    let back = finetune("single", "several.csv", "back");
    assert!(back["multi_label"]["mean_average_precision"].is_number(), "{back}");

    let keep = ["--set", "finetune.keep_head=true", "--epochs", "1"];
    for (from, dataset) in [("several", "single.csv"), ("single", "several.csv")] {
        let from = start(from);
        let arguments = [&["finetune", "--from", &from, "--dataset", dataset], &keep[..]].concat();
        bench.run(&arguments).fails(1, &["keep_head", "classify", "multi-label"]);
    }
    let model = start("several");
    let data = ["--dataset", "several.csv", "--epochs", "1"];
    for (arguments, status, words) in [
        (vec!["predict", "--model", &model, "--digits", "0.png"], 2, &["`digits`", "multi-label"][..]),
        (vec!["predict", "--model", &model, "--keep", "0.9", "0.png"], 2, &["`keep`", "multi-label"]),
        (
            vec!["evaluate", "--model", &model, "--rejection", "mnist-sample"],
            2,
            &["--rejection", "multi-label"],
        ),
        (
            vec!["evaluate", "--model", "artifacts/single", "--dataset", "several.csv"],
            1,
            &["several labels a picture"],
        ),
        (vec!["compare", "several", "back"], 1, &["multi-label run"]),
        (
            [&["train", "--set", "data.sampler=balanced"], &data[..]].concat(),
            1,
            &["balanced", "--class-weights"],
        ),
        ([&["train", "--limit-per-class", "5"], &data[..]].concat(), 1, &["limit_per_class", "--limit"]),
        ([&["train", "--task", "several"], &data[..]].concat(), 2, &["classify or multi-label"]),
        (
            vec!["federated", "--dataset", "several.csv", "--nodes", "2", "--rounds", "1"],
            1,
            &["federated averaging"],
        ),
    ] {
        bench.run(&arguments).fails(status, words);
    }
    // One class each, as sets of one, whatever the data.
    let asked = train(
        &bench,
        &[
            "train",
            "--task",
            "multi-label",
            "--dataset",
            "mnist-sample",
            "--limit",
            "200",
            "--epochs",
            "1",
            "--name",
            "asked",
        ],
    );
    assert_eq!(asked["multi_label"]["per_class"].as_array().map(Vec::len), Some(10));
}
