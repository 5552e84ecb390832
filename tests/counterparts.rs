//! What needs a counterpart that a machine may lack: other programs, or a graphics adapter. `cargo test` leaves this target out;
//! a recipe of the justfile brings each counterpart and asks for its test, which fails without it.

#![allow(clippy::print_stderr, reason = "figures for whoever runs with --nocapture")]

#[path = "support/backends.rs"]
mod backends;
#[path = "support/exports.rs"]
mod exports;
#[path = "support/goldens.rs"]
mod goldens;
#[path = "support/mod.rs"]
mod support;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use exports::{Exporter, dequantized, logits, models, pixels, probabilities, untrained_on};
use model::{InputShape, Model, NetworkConfig};
use support::Bench;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Where a counterpart is, which `recipe` says.
fn counterpart(variable: &str, recipe: &str) -> OsString {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set; `{recipe}` installs the counterpart and sets it"))
}

/// Needs a driver; one in software will do (scripts/setup.sh).
#[test]
fn graphics_adapters_agree_with_the_processor() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    let model = root().join("artifacts/reference");
    let model = model.to_str().expect("a path");
    backends::agree(&bench, &["--model", model, "--dataset", "mnist-sample"], "wgpu");
    backends::train_alike(&bench, &["train"], "wgpu");
}

/// `PyTorch`, ONNX's checker, ONNX Runtime and `NumPy` on every model, against our logits.
#[test]
fn peers_compute_the_same() {
    let python = counterpart("KILN_PYTHON", "just export-peers");
    let root = root();
    let exporter = Exporter::new();
    let write = |path: String, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(exporter.bench.path(&path), bytes).expect("written");
    };
    let mut folders = Vec::new();
    // Too large for a header: grids that do not divide the maps, and shortcuts with weights.
    let large = [
        (
            "alexnet",
            "name = 'alexnet'\ndense = [6]\ngrid = 4\ninitialization = 'fan-in-uniform'",
            InputShape::new(3, 67, 95),
        ),
        ("resnet18", "name = 'resnet'", InputShape::new(3, 33, 40)),
    ];
    let large = large.map(|(name, toml, input)| {
        (name, untrained_on(input, toml::from_str(toml).expect("a configuration")))
    });
    for (name, bytes) in models().into_iter().chain(large) {
        let model = exporter.write_model(name, &bytes);
        let preprocessing = &model.metadata.preprocessing;
        let pixels = pixels(name, preprocessing.input);
        let mut images = vec![0.0; pixels.len()];
        preprocessing.normalize_into(&pixels, &mut images);
        write(format!("{name}/images.f32"), &images);
        let answers = |kind: &str, model: &Model| {
            let logits = logits(model, &pixels);
            write(format!("{name}/logits{kind}.f32"), &logits);
            write(format!("{name}/probabilities{kind}.f32"), &probabilities(model, &logits));
        };
        answers("", &model);
        for (format, extension) in [("safetensors", "safetensors"), ("onnx", "onnx"), ("npz", "npz")] {
            exporter.export(name, format, extension, false);
            if Exporter::quantizable(name) {
                let file = exporter.export(name, format, extension, true);
                if format == "npz" {
                    answers("_int8", &dequantized(&model, &file));
                }
            }
        }
        folders.push(exporter.bench.path(name));
    }
    let output = Command::new(root.join(python))
        .arg(root.join("tests/peers/export_check.py"))
        .args(&folders)
        .output()
        .expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.lines().count() >= 3 * folders.len(), "{text}");
}

/// Checkpoints of whole networks of `PyTorch` and torchvision.
#[test]
fn whole_networks_give_the_logits_of_torchvision() {
    let folder = PathBuf::from(counterpart("KILN_GOLDEN", "just golden-networks"));
    let index = goldens::read(&folder.join("index.json"));
    let entries = index.as_array().expect("entries");
    assert!(!entries.is_empty());
    for golden in entries {
        let name = golden["name"].as_str().expect("a name");
        let entry = NetworkConfig::named(name).expect("a network");
        let (input, classes) = goldens::sizes(golden);
        let summary = entry.config.summary(input, classes).expect("it fits");
        assert_eq!(Some(summary.parameters() as u64), golden["parameters"].as_u64(), "{name}");
        let path = folder.join(golden["file"].as_str().expect("a file"));
        let network = goldens::load(&path, &entry.config, input, classes).expect("it loads");
        let (worst, same) = goldens::compare(&network, input, golden);
        assert!(worst <= goldens::TOLERANCE && same, "{name}: {worst}, same class: {same}");
        eprintln!("{name}: {} parameters, largest difference {worst:.1e}", summary.parameters());
    }
}
