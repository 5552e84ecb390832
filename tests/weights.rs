//! Weights that other programs wrote: every container, hostile files, and the logits of PyTorch for whole networks.

#![allow(clippy::print_stderr, reason = "figures for whoever runs with --nocapture")]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use data::Search;
use model::{InputShape, Loading, Network, NetworkConfig};
use serde_json::Value;
use support::Bench;
use train::start::weights::ForeignWeights;

/// Largest difference of a logit, absolute up to a magnitude of 1 and relative above.
const TOLERANCE: f64 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/weights")
}

/// `images` of `tests/golden/networks.py`.
fn images(count: usize, input: InputShape) -> Tensor<4> {
    let start = (1_000_001u64 * 0x85EB_CA77 % (1 << 32)) as u32;
    let value = |index: u32| {
        let mut x = index.wrapping_mul(0x9E37_79B1).wrapping_add(start);
        x ^= x >> 16;
        x = x.wrapping_mul(0x7FEB_352D);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846C_A68B);
        x ^= x >> 16;
        ((f64::from(x >> 8) / f64::from(1 << 24) - 0.5) * 4.0) as f32
    };
    let values: Vec<f32> = (1..=(count * input.len()) as u32).map(value).collect();
    let shape = [count, input.channels, input.height, input.width];
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a golden file")).expect("JSON")
}

/// Input and classes of a golden.
fn sizes(golden: &Value) -> (InputShape, usize) {
    let size = |value: &Value| value.as_u64().expect("a size") as usize;
    let input = &golden["input"];
    (InputShape::new(size(&input[0]), size(&input[1]), size(&input[2])), size(&golden["classes"]))
}

fn open(path: &Path) -> Result<ForeignWeights, String> {
    ForeignWeights::open(path.to_str().expect("a path"), &Search::default()).map_err(|e| e.to_string())
}

fn load(path: &Path, config: &NetworkConfig, input: InputShape, classes: usize) -> Result<Network, String> {
    let empty = config.init(input, classes, 1, &Device::flex()).expect("it fits");
    let loaded = open(path)?.load(empty, config, input, classes, |_| Loading::Required);
    loaded.map(|(network, _)| network).map_err(|error| error.to_string())
}

/// The largest difference of a logit of a golden, and whether the classes agree.
fn compare(network: &Network, input: InputShape, golden: &Value) -> (f64, bool) {
    let expected: Vec<Vec<f64>> = golden["logits"]
        .as_array()
        .expect("logits")
        .iter()
        .map(|image| {
            image.as_array().expect("logits").iter().map(|v| v.as_f64().expect("a number")).collect()
        })
        .collect();
    let logits = network.forward(images(expected.len(), input));
    let [_, classes] = logits.dims();
    let found: Vec<f64> = logits.into_data().iter::<f64>().collect();
    let top = |values: &[f64]| (0..values.len()).max_by(|a, b| values[*a].total_cmp(&values[*b]));
    let rows = found.chunks(classes).zip(&expected);
    let same = rows.clone().all(|(found, expected)| top(found) == top(expected));
    let differences = rows.flat_map(|(found, expected)| found.iter().zip(expected));
    let worst = differences.map(|(found, expected)| (found - expected).abs() / expected.abs().max(1.0));
    (worst.fold(0.0, f64::max), same)
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

/// Checkpoints of whole networks, which `scripts/golden-networks.sh` makes in the folder `KILN_GOLDEN`; without
/// it, the small goldens of the other tests have to do.
#[test]
fn whole_networks_give_the_logits_of_torchvision() {
    let Some(folder) = std::env::var_os("KILN_GOLDEN").map(PathBuf::from) else { return };
    let index = read(&folder.join("index.json"));
    let entries = index.as_array().expect("entries");
    assert!(!entries.is_empty());
    for golden in entries {
        let name = golden["name"].as_str().expect("a name");
        let entry = NetworkConfig::named(name).expect("a network");
        let (input, classes) = sizes(golden);
        let summary = entry.config.summary(input, classes).expect("it fits");
        assert_eq!(Some(summary.parameters() as u64), golden["parameters"].as_u64(), "{name}");
        let path = folder.join(golden["file"].as_str().expect("a file"));
        let network = load(&path, &entry.config, input, classes).expect("it loads");
        let (worst, same) = compare(&network, input, golden);
        assert!(worst <= TOLERANCE && same, "{name}: {worst}, same class: {same}");
        eprintln!("{name}: {} parameters, largest difference {worst:.1e}", summary.parameters());
    }
}
