//! Weights that other programs wrote: every container, hostile files, and the logits of PyTorch. Whole networks are compared in
//! `counterparts.rs`.

#[path = "support/goldens.rs"]
mod goldens;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use goldens::{TOLERANCE, compare, load, read, sizes};
use model::NetworkConfig;
use support::Bench;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/weights")
}

#[test]
fn every_container_of_pytorch_is_read() {
    let golden_file = read(&golden().join("logits.json"));
    let config: NetworkConfig = serde_json::from_value(golden_file["config"].clone()).expect("a network");
    let (input, classes) = sizes(&golden_file);
    for (file, limit) in [
        ("zip.pth", TOLERANCE),
        ("legacy.pth", TOLERANCE),
        ("checkpoint.pth", TOLERANCE),
        ("f32.safetensors", TOLERANCE),
        // Two and three digits of precision.
        ("bf16.pth", 2e-2),
        ("f16.safetensors", 2e-3),
    ] {
        let network = load(&golden().join(file), &config, input, classes).expect("it loads");
        let (worst, _) = compare(&network, input, &golden_file);
        assert!(worst <= limit, "{file}: {worst}");
    }
}

/// Cuts and changed bytes of every container: an error or other weights, never a panic.
#[test]
fn damaged_checkpoints_never_panic() {
    let golden_file = read(&golden().join("logits.json"));
    let config: NetworkConfig = serde_json::from_value(golden_file["config"].clone()).expect("a network");
    let (input, classes) = sizes(&golden_file);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bent.pth");
    for file in ["zip.pth", "legacy.pth", "checkpoint.pth"] {
        let bytes = fs::read(golden().join(file)).expect("a checkpoint");
        let mut refused = 0;
        let mut attempt = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            refused += usize::from(load(&path, &config, input, classes).is_err());
        };
        for len in (0..bytes.len()).step_by(7) {
            attempt(&bytes[..len]);
        }
        for position in (0..bytes.len()).step_by(3) {
            let mut bent = bytes.clone();
            bent[position] ^= [0x01, 0x80, 0xFF][position % 3];
            attempt(&bent);
        }
        assert!(refused > bytes.len() / 10, "{file}: {refused} refused");
    }
}

/// A pickle is a program; this one would make a file.
#[test]
fn pickles_are_not_executed() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_train"));
    let mark = bench.path("executed");
    let program = format!("touch {}", mark.display());
    for pickle in [
        format!("cposix\nsystem\n(S'{program}'\ntR."),
        format!("}}(S'blocks.0.weight'\ncposix\nsystem\n(S'{program}'\ntRu."),
        format!("c__builtin__\neval\n(S'__import__(\"os\").system(\"{program}\")'\ntR."),
    ] {
        fs::write(bench.path("evil.pth"), pickle).expect("written");
        let ran = bench.run(&[
            "--model",
            "mlp",
            "--weights",
            "evil.pth",
            "--dataset",
            "mnist-sample",
            "--epochs",
            "1",
        ]);
        ran.fails(1, &["evil.pth"]);
        assert!(!mark.exists(), "the pickle was executed");
    }
}

#[test]
fn training_goes_on_from_foreign_weights_and_refuses_wrong_ones() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_train"));
    let small = |more: &[&str]| {
        let mut arguments = vec![
            "--dataset",
            "mnist-sample",
            "--epochs",
            "1",
            "--limit",
            "200",
            "--progress",
            "none",
            "--set",
            "data.valid_fraction=0.2",
        ];
        arguments.extend(more);
        bench.run(&arguments)
    };
    let file = golden().join("zip.pth");
    let file = file.to_str().expect("a path");
    // A network of 6x6 images and 3 classes: the first layer does not fit.
    small(&["--weights", file, "--model", "mlp", "--set", "network.hidden=[8]"])
        .fails(1, &["blocks.0.weight is [36, 8], expected [784, 8]", "zip.pth"]);
    small(&["--weights", file, "--model", "lenet5"])
        .fails(1, &["missing: blocks.0.conv.bias", "unexpected: "]);
    small(&["--weights", "nowhere.pth"]).fails(1, &["nowhere.pth", "cannot read"]);
    small(&["--weights", "torchvision:resnet19"]).fails(2, &["resnet19", "resnet18"]);
    fs::write(bench.path("text.pth"), "not weights").expect("written");
    small(&["--weights", "text.pth", "--model", "mlp"]).fails(1, &["text.pth is a text", "safetensors"]);
    small(&["--model", "vgg17"]).fails(2, &["vgg17", "vgg16-bn"]);
    small(&["--model", "vgg"]).fails(2, &["vgg16"]);
    // Nothing of these was a run.
    assert!(!bench.path("artifacts").exists());
}

#[test]
fn published_weights_that_cannot_be_had_say_where_to_put_them() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_train"));
    let output = bench
        .command(&["--weights", "torchvision:resnet18", "--dataset", "mnist-sample", "--progress", "none"])
        .env("KILN_MIRROR", "http://127.0.0.1:9")
        .output()
        .expect("it starts");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for part in ["resnet18-f37072fd.pth", "cache/kiln/torchvision", "--data-dir", "127.0.0.1:9"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}
