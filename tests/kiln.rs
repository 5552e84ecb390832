//! The command `kiln`, from outside: every subcommand.

#[path = "support/backends.rs"]
mod backends;
#[path = "support/mod.rs"]
mod support;

use std::fs;

use support::Bench;

fn bench() -> Bench {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let result = bench.json(&[
        "train",
        "--dataset",
        "mnist-sample",
        "--epochs",
        "2",
        "--json",
        "--progress",
        "none",
        "--name",
        "first",
    ]);
    fs::write(bench.path("first.json"), result.to_string()).expect("written");
    bench
}

fn first(bench: &Bench) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(bench.path("first.json")).expect("a result")).expect("JSON")
}

#[test]
fn evaluate_finds_what_training_found() {
    let bench = bench();
    let trained = first(&bench);
    for model in ["artifacts/first", "artifacts/first/model.kiln"] {
        let evaluated = bench.json(&["evaluate", "--model", model, "--json"]);
        for key in [
            "test_accuracy",
            "test_macro_f1",
            "weights_sha256",
            "parameters",
            "seed",
            "epochs",
            "dataset",
            "valid_accuracy",
        ] {
            assert_eq!(evaluated[key], trained[key], "{key}");
        }
        for key in ["run", "model", "backend", "train_samples_per_second", "seconds"] {
            assert!(!evaluated[key].is_null(), "{key}");
        }
    }
    let words = bench.run(&["evaluate", "--model", "artifacts/first"]);
    assert!(
        words.stdout.contains("macro average") && words.stdout.contains("500 images"),
        "{}",
        words.stdout
    );
    let train = bench.json(&["evaluate", "--model", "artifacts/first", "--split", "train", "--json"]);
    assert_eq!(train["images"], 2000);
}

/// The same answers for the same weights. The graphics adapter's turn is in `counterparts.rs`.
#[test]
fn backends_agree() {
    let bench = bench();
    backends::agree(&bench, &["--model", "artifacts/first"], "ndarray");
}

#[test]
fn without_a_driver_wgpu_is_an_error_that_names_the_others() {
    let bench = bench();
    let output = bench
        .command(&["evaluate", "--model", "artifacts/first", "--backend", "wgpu"])
        .env("VK_DRIVER_FILES", "/nonexistent.json")
        .env("VK_ICD_FILENAMES", "/nonexistent.json")
        .env("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent.json")
        .output()
        .expect("the program starts");
    support::Ran::from(output)
        .fails(1, &["no graphics adapter", "mesa-vulkan-drivers", "`flex` and `ndarray`"]);
}

#[test]
fn runs_are_listed_and_compared() {
    let bench = bench();
    bench.json(&[
        "train",
        "--dataset",
        "mnist-sample",
        "--epochs",
        "1",
        "--json",
        "--progress",
        "none",
        "--name",
        "second",
        "--set",
        "network.dense=[]",
    ]);
    let listed = bench.json(&["runs", "--json"]);
    let runs = listed["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 2);
    let parameters = |name: &str| {
        runs.iter().find(|run| run["name"] == name).expect("a run")["parameters"].as_u64().expect("a number")
    };
    assert_eq!((parameters("first"), parameters("second")), (225_034, 34_826));
    let table = bench.run(&["runs", "--best"]).stdout;
    assert!(table.contains("first") && table.contains("finished") && table.contains("225034"), "{table}");
    bench.run(&["runs", "third"]).fails(1, &["third"]);

    // A name that is taken is known before the data is looked for.
    let taken = ["train", "--dataset", "nowhere", "--name", "second"];
    bench.run(&taken).fails(2, &["artifacts/second"]);
    bench.run(&["finetune", "--dataset", "nowhere", "--name", "second"]).fails(2, &["artifacts/second"]);
    bench.run(&["lr-find", "--dataset", "nowhere", "--name", "second"]).fails(2, &["artifacts/second"]);
    std::fs::write(bench.path("file"), "").expect("written");
    bench.run(&["train", "--dataset", "nowhere", "--out", "file/runs"]).fails(1, &["file/runs"]);
    for flag in ["--limit", "--limit-per-class"] {
        bench.run(&["train", flag, "0"]).fails(2, &[flag, "leave the flag out"]);
    }

    std::fs::write(bench.path("artifacts/second/run.json"), "{").expect("written");
    let ran = bench.run(&["runs"]);
    assert!(ran.status == 0 && ran.stderr.contains("artifacts/second/run.json"), "{}", ran.stderr);
}

#[test]
fn data_is_listed_and_checked_without_a_network() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let listed = bench.run(&["data"]);
    assert_eq!(listed.status, 0, "{}", listed.stderr);
    for name in ["mnist", "fashion-mnist", "mnist-sample"] {
        assert!(listed.stdout.contains(name), "{}", listed.stdout);
    }
    let checked = bench.json(&["data", "check", "mnist-sample", "--json"]);
    assert_eq!(checked["train"]["images"], 2000);
    assert_eq!(checked["shape"], serde_json::json!([1, 28, 28]));
    fs::create_dir(bench.path("empty")).expect("a folder");
    let ran = bench.run(&["data", "check", "empty"]);
    assert!(ran.status == 1 && ran.stdout.contains("empty: no data set is recognised"), "{}", ran.stdout);
}

#[test]
fn bad_models_and_flags_are_errors() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    bench.run(&["evaluate", "--model", "nothing"]).fails(1, &["nothing"]);
    bench.run(&["evaluate", "--split", "some"]).fails(2, &["some", "valid", "all"]);
    bench.run(&["teach"]).fails(2, &["teach"]);
    bench.run(&[]).fails(2, &["Usage"]);
}

#[test]
fn bench_measures_training_and_inference() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let short = ["--rounds", "2", "--seconds", "0.01", "--json"];
    let measure = |arguments: &[&str]| {
        let report = bench.json(&[&["bench"], arguments, &short].concat());
        report["measurements"].as_array().expect("a list").clone()
    };
    // One job runs in the process itself, several in processes of their own.
    let both = measure(&["--net", "cnn", "--backend", "flex", "--batch-size", "16", "--threads", "1"]);
    assert_eq!(both.len(), 2);
    for (found, work) in both.iter().zip(["training", "inference"]) {
        assert_eq!(found["work"], work);
        assert_eq!((&found["parameters"], &found["threads"]), (&34_826.into(), &1.into()));
        assert_eq!(found["data"], "mnist-sample", "MNIST is not at hand here");
        let rounds = found["rounds"].as_array().expect("rounds");
        assert!(rounds.len() == 2 && rounds.iter().all(|rate| rate.as_f64().is_some_and(|rate| rate > 0.0)));
    }
    let sizes = measure(&["--net", "stack", "--work", "inference", "--backend", "flex"]);
    let sizes: Vec<_> = sizes.iter().map(|found| found["batch_size"].as_u64().expect("a size")).collect();
    assert_eq!(sizes, [1, 128, 1024]);
    let one = measure(&[
        "--net",
        "resnet20",
        "--input",
        "3x8x8",
        "--work",
        "inference",
        "--batch-size",
        "1",
        "--backend",
        "ndarray",
    ]);
    let latency = |key: &str| one[0]["latency"][key].as_f64().expect("microseconds");
    assert!(0.0 < latency("p50_us") && latency("p50_us") <= latency("p99_us"));
    assert_eq!(one[0]["data"], "synthetic");
    assert!(!bench.path("artifacts").exists(), "a measurement leaves no run behind");
}

#[test]
fn bad_measurements_are_errors() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    for (arguments, words) in [
        (&["--net", "teapot"][..], &["teapot", "kiln models"][..]),
        (&["--net", "cnn", "--input", "1x2x2"], &["1x2x2"]),
        (&["--input", "28x28"], &["3x32x32"]),
        (&["--net", "stack", "--data", "mnist-sample"], &["3x32x32", "synthetic"]),
        (&["--net", "stack", "--batch-size", "65536"], &["at most"]),
        (&["--seconds", "0"], &["0.01"]),
        (&["--rounds", "0"], &["rounds"]),
    ] {
        bench.run(&[&["bench"], arguments].concat()).fails(2, words);
    }
}

/// A word that names no path is a fault of the command line in every command, and never a slower way without a word.
#[test]
fn unknown_kernels_are_refused_everywhere() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let commands: [&[&str]; 7] = [
        &["predict", "3.png"],
        &["evaluate"],
        &["train"],
        &["finetune"],
        &["bench"],
        &["serve"],
        &["models"],
    ];
    for command in commands {
        let output = bench.command(command).env("KILN_KERNELS", "nonsense").output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {said}");
        assert!(
            said.contains("nonsense") && said.contains("auto, stock, portable, avx2 or avx512"),
            "{said}"
        );
    }
    // Set to nothing is not set.
    let empty = [("KILN_KERNELS", ""), ("KILN_DATA", ""), ("KILN_MIRROR", ""), ("KILN_LOG", "")];
    for command in [&["models"][..], &["data", "check", "mnist-sample"]] {
        let output = bench.command(command).envs(empty).output().expect("it starts");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for command in &commands[..5] {
        let words = ["nonsense", "auto", "stock", "portable", "avx2", "avx512"];
        bench.run(&[command, &["--kernels", "nonsense"][..]].concat()).fails(2, &words);
    }
}
