//! `kiln export`: every format, for every network. What other programs make of the files is
//! in `counterparts.rs`.

#[path = "support/exports.rs"]
mod exports;
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use exports::{
    Exporter, IMAGES, arrays, assert_close, dequantized, floats, logits, models, pixels, probabilities,
    reference, untrained,
};
use model::{CnnConfig, Model, named_tensors};
use serde_json::Value;
use support::Bench;

/// Compiles the header as strictly as compilers do, and runs it over the pixels: logits and probabilities.
fn run_in_c(folder: &Path, header: &str, pixels: &[u8], classes: usize) -> [Vec<f32>; 2] {
    let main = format!(
        "#include <stdio.h>\n#include \"{header}\"\n\
         int main(void) {{\n\
             static unsigned char pixels[KILN_CHANNELS * KILN_HEIGHT * KILN_WIDTH];\n\
             static float logits[KILN_CLASSES], scratch[KILN_SCRATCH];\n\
             while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {{\n\
                 int class = kiln_classify(pixels, logits, scratch);\n\
                 if (!kiln_classes[class]) return 1;\n\
                 for (int k = 0; k < KILN_CLASSES; k++) printf(\"%.9g\\n\", (double)logits[k]);\n\
                 kiln_probabilities(logits, logits);\n\
                 for (int k = 0; k < KILN_CLASSES; k++) printf(\"%.9g\\n\", (double)logits[k]);\n\
             }}\n\
             return 0;\n\
         }}\n"
    );
    fs::write(folder.join("main.c"), main).expect("written");
    fs::write(folder.join("pixels"), pixels).expect("written");
    let compiled = Command::new("cc")
        .args([
            "-std=c99",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Wconversion",
            "-Wno-sign-conversion",
            "-Werror",
        ])
        .args(["main.c", "-o", "main", "-lm"])
        .current_dir(folder)
        .output()
        .expect("a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(folder.join("main"))
        .stdin(fs::File::open(folder.join("pixels")).expect("the pixels"))
        .output()
        .expect("it runs");
    assert!(ran.status.success());
    let text = String::from_utf8(ran.stdout).expect("text");
    let numbers: Vec<f32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(numbers.len(), 2 * IMAGES * classes);
    [0, 1].map(|part| numbers.chunks(classes).skip(part).step_by(2).flatten().copied().collect())
}

#[test]
fn a_header_computes_what_the_network_computes() {
    let exporter = Exporter::new();
    for (name, bytes) in models() {
        let model = exporter.write_model(name, &bytes);
        let pixels = pixels(name, model.metadata.preprocessing.input);
        let folder = exporter.bench.path(name);
        exporter.export(name, "c-header", "h", false);
        let classes = model.metadata.classes.len();
        let check = |header: &str, model: &Model| {
            let [found, likely] = run_in_c(&folder, header, &pixels, classes);
            let expected = logits(model, &pixels);
            assert_close(name, &found, &expected);
            assert_close(name, &likely, &probabilities(model, &expected));
        };
        check("model.h", &model);
        if Exporter::quantizable(name) {
            exporter.export(name, "c-header", "h", true);
            let rounded = dequantized(&model, &exporter.export(name, "npz", "npz", true));
            check("model_int8.h", &rounded);
            assert_ne!(logits(&rounded, &pixels), logits(&model, &pixels), "rounding changes something");
        }
    }
}

#[test]
fn names_layouts_and_values_are_kept() {
    let exporter = Exporter::new();
    for (name, bytes) in models() {
        let model = exporter.write_model(name, &bytes);
        let record = named_tensors(&model.network);
        // npz: our names and layouts.
        let npz = arrays(&exporter.export(name, "npz", "npz", false));
        assert_eq!(npz.len(), record.len() + 1);
        for (tensor, data) in &record {
            let (header, bytes) = &npz[tensor];
            let sizes = data.shape().iter().map(|size| format!("{size},")).collect::<Vec<_>>().concat();
            assert!(header.contains(&format!("'shape': ({sizes})")) && header.contains("'<f4'"), "{header}");
            assert_eq!(floats(bytes), data.try_to_vec::<f32>().expect("floats"), "{tensor}");
        }
        // burnpack: what Burn itself loads.
        let pack = exporter.export(name, "burnpack", "bpk", false);
        let metadata = &model.metadata;
        let empty =
            metadata.network.init(metadata.preprocessing.input, metadata.classes.len(), 99, &Device::flex());
        let pack = ModuleRecord::from_bytes(Bytes::from_bytes_vec(pack)).expect("a record");
        let loaded = empty.expect("a network").try_load_record(pack).expect("it fits");
        assert_eq!(model::weights_sha256(&loaded), metadata.weights_sha256);
        // safetensors: PyTorch's names and layouts.
        let file = exporter.export(name, "safetensors", "safetensors", false);
        let tensors = safetensors::SafeTensors::deserialize(&file).expect("safetensors");
        assert_eq!(tensors.len(), record.len());
        let (_, head) = record.iter().find(|(tensor, _)| tensor == "head.weight").expect("a head");
        let [inputs, outputs] = head.shape().dims::<2>();
        let last = tensors
            .iter()
            .filter(|(tensor, view)| {
                (tensor.starts_with("classifier.") || *tensor == "head.weight") && view.shape().len() == 2
            })
            .max_by_key(|(tensor, _)| tensor.to_string())
            .expect("a matrix")
            .1;
        assert_eq!(last.shape(), [outputs, inputs]);
        let (ours, theirs) = (head.try_to_vec::<f32>().expect("floats"), floats(last.data()));
        for input in 0..inputs {
            for output in 0..outputs {
                assert_eq!(
                    ours[input * outputs + output].to_bits(),
                    theirs[output * inputs + input].to_bits(),
                    "{name}: {input}, {output}"
                );
            }
        }
    }
}

/// Every format says how its logits become Kiln's probabilities, and what of the rejection it lacks.
#[test]
fn every_format_has_the_temperature() {
    let exporter = Exporter::new();
    for (name, bytes, novelty) in [
        ("reference", reference(), true),
        ("flat", untrained(CnnConfig { blocks: vec![], ..CnnConfig::default() }), false),
    ] {
        let temperature = exporter.write_model(name, &bytes).metadata.temperature();
        assert_ne!(temperature, 1.0);
        let check = |about: &dyn Fn(&str) -> String, what: &str| {
            assert_eq!(about("temperature").parse(), Ok(temperature), "{what}");
            assert_eq!(about("probabilities"), "softmax(logits / temperature) over the last axis", "{what}");
            assert!(about("rejection").contains("--reject-below"), "{what}");
            assert_eq!(about("rejection").contains("out-of-distribution"), novelty, "{what}");
        };
        let from_json = |text: &str, key: &str| match &serde_json::from_str::<Value>(text).expect("JSON")[key]
        {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };

        let npz = arrays(&exporter.export(name, "npz", "npz", false));
        let text: Vec<u32> =
            npz["kiln"].1.chunks(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        let text: String = text.into_iter().filter_map(char::from_u32).collect();
        check(&|key| from_json(&text, key), "npz");

        let pack = exporter.export(name, "burnpack", "bpk", false);
        let pack = burn_pack::Reader::from_bytes(Bytes::from_bytes_vec(pack)).expect("a burnpack");
        check(&|key| from_json(&pack.metadata()["kiln"], key), "burnpack");

        let file = exporter.export(name, "safetensors", "safetensors", false);
        let (_, header) = safetensors::SafeTensors::read_metadata(&file).expect("safetensors");
        let about = header.metadata().clone().expect("metadata");
        check(&|key| about[key].clone(), "safetensors");

        // A text in a protocol buffer is its tag, its length, and itself.
        let onnx = exporter.export(name, "onnx", "onnx", false);
        // The last one: names in the graph look alike.
        let position = |part: &[u8]| onnx.windows(part.len()).rposition(|window| window == part);
        check(
            &|key| {
                let tag = [&[0x0a, key.len() as u8][..], key.as_bytes(), &[0x12]].concat();
                let start = position(&tag).expect("a property") + tag.len();
                let (mut len, mut at) = (0, start);
                loop {
                    len |= usize::from(onnx[at] & 0x7f) << (7 * (at - start));
                    at += 1;
                    if onnx[at - 1] < 0x80 {
                        break;
                    }
                }
                String::from_utf8(onnx[at..at + len].to_vec()).expect("text")
            },
            "onnx",
        );
        for part in ["logits_by_temperature_Div", "probabilities_Softmax"] {
            assert!(position(part.as_bytes()).is_some(), "{part}");
        }

        let header = String::from_utf8(exporter.export(name, "c-header", "h", false)).expect("text");
        let after = |mark: &str| {
            let start = header.find(mark).expect(mark) + mark.len();
            header[start..].lines().next().expect("a line").trim().to_owned()
        };
        check(
            &|key| match key {
                "temperature" => after("#define KILN_TEMPERATURE").trim_end_matches('f').to_owned(),
                "probabilities" => after("kiln_probabilities(logits, probabilities);"),
                _ => after("* Rejection:"),
            },
            "c-header",
        );
    }
}

#[test]
fn eight_bits_cost_what_is_printed() {
    let exporter = Exporter::new();
    let bench = &exporter.bench;
    exporter.write_model("reference", &reference());
    let export = |format: &str, flags: &[&str]| {
        let mut arguments =
            vec!["export", "--model", "reference/model.kiln", "--format", format, "--out", "out", "--json"];
        arguments.extend(flags);
        bench.json(&arguments)
    };
    let evaluated =
        bench.json(&["evaluate", "--model", "reference/model.kiln", "--dataset", "mnist-sample", "--json"]);
    for format in ["npz", "safetensors", "onnx", "c-header"] {
        let whole = export(format, &[]);
        let small = export(format, &["--quantize", "int8", "--dataset", "mnist-sample"]);
        assert!(whole["quantized"].is_null());
        let cost = &small["quantized"];
        assert_eq!(cost["accuracy_before"], evaluated["test_accuracy"]);
        assert_eq!(cost["loss_before"], evaluated["test_loss"]);
        assert_ne!(cost["loss_after"], cost["loss_before"]);
        let (before, after) = (&cost["accuracy_before"], &cost["accuracy_after"]);
        let lost = before.as_f64().expect("a number") - after.as_f64().expect("a number");
        assert!(lost < 0.01, "{cost}");
        let bytes = |result: &Value| result["bytes"].as_u64().expect("a number");
        assert!(bytes(&small) * 2 < bytes(&whole), "{format}: {} {}", bytes(&small), bytes(&whole));
    }
}

/// The images are those that `evaluate` looks at: in the model's size and fit, without the bad one, the same test part.
#[test]
fn eight_bits_are_measured_on_the_models_own_images() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_kiln"));
    for (class, at) in [("left", 4), ("right", 40)] {
        fs::create_dir_all(bench.path(&format!("wide/{class}"))).expect("a folder");
        for index in 0..14u32 {
            let ink = |x: u32| if (at..at + 5 + index % 4).contains(&x) { 250 } else { (7 * index) as u8 };
            let picture = image::RgbImage::from_fn(52, 16, |x, y| image::Rgb([ink(x), ink(x), y as u8]));
            picture.save(bench.path(&format!("wide/{class}/{index}.png"))).expect("a picture");
        }
    }
    fs::write(bench.path("wide/left/bad.png"), "no picture").expect("written");
    let train = [
        "train",
        "--dataset",
        "wide",
        "--model",
        "mlp",
        "--set",
        "network.hidden=[8]",
        "--input",
        "10x24",
        "--fit",
        "stretch",
        "--on-bad-image",
        "skip",
        "--epochs",
        "1",
        "--batch-size",
        "8",
        "--set",
        "data.test_fraction=0.3",
        "--set",
        "data.valid_fraction=0.2",
        "--name",
        "wide-run",
        "--progress",
        "none",
        "--json",
    ];
    let trained = bench.json(&train);
    let evaluated = bench.json(&["evaluate", "--model", "artifacts/wide-run", "--json"]);
    let export =
        ["export", "--model", "artifacts/wide-run", "--format", "npz", "--quantize", "int8", "--out", "out"];
    let cost = bench.json(&[&export[..], &["--json"]].concat())["quantized"].clone();
    assert_eq!(cost["images"], evaluated["images"]);
    assert_eq!(cost["accuracy_before"], evaluated["test_accuracy"]);
    assert_eq!(cost["loss_before"], evaluated["test_loss"]);
    assert_eq!(evaluated["test_accuracy"], trained["test_accuracy"]);
    assert_eq!(evaluated["test_loss"], trained["test_loss"]);
}

#[test]
fn wrong_requests_are_refused() {
    let exporter = Exporter::new();
    let bench = &exporter.bench;
    exporter.write_model("reference", &reference());
    let model = ["export", "--model", "reference/model.kiln", "--out", "out"];
    let run = |flags: &[&str]| bench.run(&[&model[..], flags].concat());
    run(&["--format", "burnpack", "--quantize", "int8"]).fails(2, &["burnpack", "npz"]);
    run(&["--format", "pickle"]).fails(2, &["pickle", "safetensors"]);
    run(&[]).fails(2, &["--format"]);
    run(&["--format", "npz", "--dataset", "mnist-sample"]).fails(2, &["--quantize"]);
    run(&["--format", "npz", "--quantize", "int8", "--dataset", "nothing"]).fails(1, &["nothing"]);
    assert!(!bench.path("out").exists());
    let before = fs::read(bench.path("reference/model.kiln")).expect("the model");
    bench
        .run(&["export", "--model", "reference", "--format", "onnx", "--out", "reference/model.kiln"])
        .fails(2, &["reference/model.kiln", "overwritten"]);
    assert!(before == fs::read(bench.path("reference/model.kiln")).expect("the model"));
    fs::write(bench.path("file"), "").expect("written");
    bench
        .run(&["export", "--model", "reference/model.kiln", "--format", "npz", "--out", "file/model.npz"])
        .fails(1, &["cannot write file/model.npz"]);
    bench
        .run(&["export", "--model", "file", "--format", "npz", "--out", "out"])
        .fails(1, &["not a Kiln model file"]);
}
