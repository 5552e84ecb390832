//! Models to export, the command that does it, and what comes out, read back: for `tests/export.rs`, and for the programs
//! of `tests/counterparts.rs`.
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::Path;

use burn::tensor::{Device, TensorData};
use model::{
    Activation, CnnConfig, Confidence, ConvBlockConfig, Description, Initialization, InputShape, Model,
    NetworkConfig, PoolConfig, PoolKind, Preprocessing, decode, encode, load, named_tensors,
};

use crate::support::Bench;

/// Images per model, of real digits for the reference model.
pub(crate) const IMAGES: usize = 16;

/// Of the logits, absolute up to a magnitude of 1 and relative above.
pub(crate) const TOLERANCE: f32 = 1e-5;

pub(crate) fn reference() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../artifacts/reference/model.kiln"))
        .expect("the model")
}

/// A model that was never trained, on images that are not square and not grey.
pub(crate) fn untrained(config: CnnConfig) -> Vec<u8> {
    untrained_on(InputShape::new(3, 19, 16), NetworkConfig::Cnn(config))
}

/// A model that was never trained.
pub(crate) fn untrained_on(input: InputShape, network: NetworkConfig) -> Vec<u8> {
    let device = Device::flex().autodiff();
    let built = network.init(input, 4, 11, &device).expect("a network");
    // Moves the running statistics.
    let images = TensorData::new(
        (0..6 * input.len()).map(|i| ((i * 37) % 101) as f32 / 20.0 - 2.0).collect(),
        [6, input.channels, input.height, input.width],
    );
    built.forward(burn::tensor::Tensor::from_data(images, &device));
    let description = Description {
        network,
        preprocessing: Preprocessing {
            input,
            mean: [0.5, 0.4, 0.3][..input.channels].into(),
            std: [0.2, 0.25, 0.3][..input.channels].into(),
            fit: model::Fit::default(),
        },
        classes: ["plain", "with \"quotes\"", "ünïcode??/", "back\\slash"].map(String::from).into(),
        task: model::Task::default(),
        provenance: BTreeMap::new(),
        confidence: Some(Confidence { temperature: 0.8, novelty: None }),
        seen: None,
    };
    encode(&built, description).expect("a model")
}

pub(crate) fn block(channels: usize) -> ConvBlockConfig {
    ConvBlockConfig::new(channels)
}

/// The reference model, and models that differ in everything a configuration may say.
pub(crate) fn models() -> Vec<(&'static str, Vec<u8>)> {
    let initialization = Initialization::FanInUniform;
    let pool = |kind, kernel, stride, padding| Some(PoolConfig { kind, kernel, stride, padding });
    let normalised = CnnConfig {
        blocks: vec![
            ConvBlockConfig { padding: 1, pool: pool(PoolKind::Max, 3, Some(2), 1), ..block(6) },
            ConvBlockConfig { kernel: 5, stride: 2, padding: 2, dropout: 0.3, ..block(9) },
        ],
        dense: vec![13, 7],
        dropout: 0.5,
        batch_norm: true,
        activation: Activation::LeakyRelu,
        initialization,
    };
    let smooth = |activation| CnnConfig {
        blocks: vec![
            ConvBlockConfig { kernel: 2, pool: pool(PoolKind::Average, 3, Some(2), 1), ..block(5) },
            ConvBlockConfig { kernel: 1, ..block(8) },
        ],
        dense: vec![9],
        activation,
        initialization,
        ..CnnConfig::default()
    };
    let flat = CnnConfig { blocks: vec![], ..CnnConfig::default() };
    let other = |toml: &str, input| untrained_on(input, toml::from_str(toml).expect("a configuration"));
    vec![
        ("reference", reference()),
        ("normalised", untrained(normalised)),
        ("silu", untrained(smooth(Activation::Silu))),
        ("sigmoid", untrained(smooth(Activation::Sigmoid))),
        ("tanh", untrained(smooth(Activation::Tanh))),
        ("gelu", untrained(smooth(Activation::Gelu))),
        ("flat", untrained(flat)),
        ("mlp", other("name = 'mlp'\nhidden = [12, 9]\nactivation = 'gelu'", InputShape::new(1, 7, 5))),
        ("lenet5", other("name = 'lenet5'", InputShape::new(1, 28, 28))),
        ("lstm", other("name = 'rnn'\nhidden = 9\nlayers = 2\ndropout = 0.2", InputShape::new(3, 6, 5))),
        ("gru", other("name = 'rnn'\ncell = 'gru'\nhidden = 7", InputShape::new(1, 8, 6))),
        ("resnet20", other("name = 'resnet'\ndepth = 20", InputShape::new(3, 17, 16))),
        (
            "vit",
            other(
                "name = 'vit'\npatch = 4\nwidth = 12\ndepth = 2\nheads = 3\nmlp = 20\ndropout = 0.1",
                InputShape::new(3, 8, 12),
            ),
        ),
        (
            "inception",
            other("name = 'inception'\nchannels = 5\nsqueeze = 4\ndropout = 0.1", InputShape::new(3, 13, 12)),
        ),
    ]
}

/// Images of a model, 8 bits.
pub(crate) fn pixels(name: &str, input: InputShape) -> Vec<u8> {
    if name == "reference" {
        let test = data::load("mnist-sample", &data::Search::default()).expect("the sample").test;
        return test.pixels[..IMAGES * input.len()].to_vec();
    }
    (0..IMAGES * input.len()).map(|i| ((i * i + 31 * i) >> 2) as u8).collect()
}

/// Logits `[N, K]` as Flex computes them.
pub(crate) fn logits(model: &Model, pixels: &[u8]) -> Vec<f32> {
    let images = model.metadata.preprocessing.batch(pixels, IMAGES, &Device::flex());
    model.network.forward(images).into_data().try_to_vec().expect("floats")
}

/// Probabilities `[N, K]` of logits, as Kiln answers.
pub(crate) fn probabilities(model: &Model, logits: &[f32]) -> Vec<f32> {
    let classes = model.metadata.classes.len();
    logits.chunks(classes).flat_map(|row| model::softmax(row, model.metadata.temperature())).collect()
}

pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= TOLERANCE * expected.abs().max(1.0),
            "{what}, logit {index}: {found}, expected {expected}"
        );
    }
}

pub(crate) struct Exporter {
    pub(crate) bench: Bench,
}

impl Exporter {
    pub(crate) fn new() -> Self {
        Self { bench: Bench::new(env!("CARGO_BIN_EXE_kiln")) }
    }

    pub(crate) fn write_model(&self, name: &str, bytes: &[u8]) -> Model {
        fs::create_dir_all(self.bench.path(name)).expect("a folder");
        fs::write(self.bench.path(&format!("{name}/model.kiln")), bytes).expect("written");
        decode(bytes, &Device::flex()).expect("a model")
    }

    /// Exports `NAME/model.kiln`; gives the file's bytes.
    pub(crate) fn export(&self, name: &str, format: &str, extension: &str, quantized: bool) -> Vec<u8> {
        let out = format!("{name}/model{}.{extension}", if quantized { "_int8" } else { "" });
        let model = format!("{name}/model.kiln");
        let mut arguments = vec!["export", "--model", &model, "--format", format, "--out", &out, "--json"];
        if quantized {
            arguments.extend(["--quantize", "int8"]);
            arguments.extend(["--dataset", "mnist-sample"]);
        }
        let result = self.bench.json(&arguments);
        let bytes = fs::read(self.bench.path(&out)).expect("the file");
        assert_eq!(result["bytes"], bytes.len());
        bytes
    }

    /// Only this one has data to measure the loss of accuracy on.
    pub(crate) fn quantizable(name: &str) -> bool {
        name == "reference"
    }
}

/// The arrays of an npz.
pub(crate) fn arrays(npz: &[u8]) -> BTreeMap<String, (String, Vec<u8>)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(npz)).expect("a zip");
    (0..archive.len())
        .map(|index| {
            let mut entry = archive.by_index(index).expect("an entry");
            let name = entry.name().expect("a name").strip_suffix(".npy").expect("an array").to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("bytes");
            let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            let text = String::from_utf8(bytes[10..10 + header].to_vec()).expect("text");
            (name, (text, bytes[10 + header..].to_vec()))
        })
        .collect()
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The model whose weights are what the integers of an npz stand for.
pub(crate) fn dequantized(model: &Model, npz: &[u8]) -> Model {
    let arrays = arrays(npz);
    let mut int8 = 0;
    let record: Vec<(String, TensorData)> = named_tensors(&model.network)
        .into_iter()
        .map(|(name, data)| {
            let (header, bytes) = &arrays[&name];
            let shape = data.shape().to_vec();
            if !header.contains("|i1") {
                assert_eq!(floats(bytes), data.try_to_vec::<f32>().expect("floats"), "{name}");
                return (name, data);
            }
            int8 += 1;
            let scales = floats(&arrays[&format!("{name}_scale")].1);
            // Outputs are the first dimension of filters, the last of matrices.
            let inner = if shape.len() == 4 { shape[1..].iter().product() } else { 1 };
            let values: Vec<f32> = bytes
                .iter()
                .enumerate()
                .map(|(index, &byte)| {
                    f32::from(i8::from_le_bytes([byte])) * scales[index / inner % scales.len()]
                })
                .collect();
            (name, TensorData::new(values, shape))
        })
        .collect();
    assert!(int8 > 0);
    Model {
        network: load(model.network.clone(), &record).expect("a network"),
        metadata: model.metadata.clone(),
    }
}
