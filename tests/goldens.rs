//! Networks of every kind as the program of 27 November 2026 wrote them: configurations, model files and records, with
//! the logits, features, gradients and running statistics that they gave then.
//!
//! They must load, and compute the same, as long as this format is read at all. `KILN_WRITE_GOLDENS=1` writes those that
//! are not there yet (a new kind of network); what is there is never written again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device, Tensor, TensorData};
use burn_pack::Reader;
use model::{
    Description, Fit, InputShape, Network, NetworkConfig, Preprocessing, decode, encode, hexadecimal,
    weights_sha256,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Images in every batch.
const IMAGES: usize = 3;

/// What is known of one network.
#[derive(Debug, Serialize, Deserialize)]
struct Golden {
    config: NetworkConfig,
    input: InputShape,
    classes: usize,
    seed: u64,
    /// The kernels that the bits below are of.
    kernels: String,
    /// Names, ids and shapes in a record of Burn, in their order.
    record: Vec<(String, u64, Vec<usize>)>,
    weights_sha256: String,
    logits: Vec<f32>,
    /// Of the network for answers.
    folded: Vec<f32>,
    /// The first of them.
    features: Vec<f32>,
    signature: Vec<f32>,
    /// Sizes of the maps of every stage.
    stages: Vec<[usize; 4]>,
    /// Sums of the maps of every stage.
    stage_sums: Vec<f32>,
    /// Groups of layers, those that classify last.
    groups: [Vec<String>; 2],
    training: Training,
}

/// One step of training without the optimiser.
#[derive(Debug, Serialize, Deserialize)]
struct Training {
    logits: Vec<f32>,
    /// SHA-256 of the gradients of all parameters in the order of a visit.
    gradients_sha256: String,
    /// With the running statistics of that step.
    weights_sha256: String,
}

/// Name, configuration as TOML, size of the images, and whether a model file and a record are kept (small ones).
const CASES: &[(&str, &str, InputShape, bool)] = &[
    (
        "cnn-normalised",
        "name = 'cnn'\ndense = [7, 6]\nactivation = 'leaky-relu'\ndropout = 0.5\nbatch_norm = true\nblocks = [\n\
         { channels = 4, pool = {}, dropout = 0.1 },\n\
         { channels = 6, kernel = 2, padding = 1, pool = { kind = 'average', kernel = 3, stride = 2, padding = 1 } },\n\
         { channels = 5, stride = 2, padding = 1 },\n]",
        InputShape::new(3, 13, 11),
        true,
    ),
    (
        "cnn-plain",
        "name = 'cnn'\nblocks = [\n{ channels = 8, padding = 1 }, { channels = 16, padding = 1, pool = {} },\n\
         { channels = 16, padding = 1, dropout = 0.2 }, { channels = 16, pool = { kind = 'average' } },\n]",
        InputShape::new(3, 16, 12),
        true,
    ),
    (
        "cnn-dense",
        "name = 'cnn'\nblocks = []\ndense = [5]\nactivation = 'tanh'",
        InputShape::new(1, 5, 6),
        true,
    ),
    (
        "mlp",
        "name = 'mlp'\nhidden = [9, 8]\nactivation = 'gelu'\ndropout = 0.3\ninitialization = 'xavier-uniform'",
        InputShape::new(1, 6, 5),
        true,
    ),
    ("rnn-lstm", "name = 'rnn'\nhidden = 6\nlayers = 2\ndropout = 0.3", InputShape::new(3, 5, 4), true),
    ("rnn-gru", "name = 'rnn'\ncell = 'gru'\nhidden = 7", InputShape::new(1, 6, 5), true),
    ("lenet5", "name = 'lenet5'\ndropout = 0.2", InputShape::new(1, 28, 28), false),
    ("lenet5-max", "name = 'lenet5'\nactivation = 'silu'\npool = 'max'", InputShape::new(3, 33, 30), false),
    ("alexnet", "name = 'alexnet'\ndense = [6]\ngrid = 2", InputShape::new(3, 67, 63), false),
    (
        "vgg13-normalised",
        "name = 'vgg'\ndepth = 13\nbatch_norm = true\ndense = []\ngrid = 1",
        InputShape::new(3, 32, 32),
        false,
    ),
    (
        "resnet20",
        "name = 'resnet'\ndepth = 20\ndropout = 0.2\ninitialization = 'he-uniform'",
        InputShape::new(2, 17, 16),
        false,
    ),
    ("resnet18", "name = 'resnet'\ninitialization = 'he-uniform'", InputShape::new(3, 40, 33), false),
    (
        "vit",
        "name = 'vit'\npatch = 4\nwidth = 8\ndepth = 2\nheads = 2\nmlp = 12\ndropout = 0.1",
        InputShape::new(3, 8, 12),
        true,
    ),
    (
        "inception",
        "name = 'inception'\nchannels = 3\nsqueeze = 4\ndropout = 0.1\ninitialization = 'he-uniform'",
        InputShape::new(3, 12, 11),
        true,
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models")
}

/// Reproducible values between -1 and 1, exact in `f32`.
fn images(input: InputShape, device: &Device) -> Tensor<4> {
    let mut state = 12_345u32;
    let values: Vec<f32> = (0..IMAGES * input.len())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as f32 / 32_768.0 - 1.0
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [IMAGES, input.channels, input.height, input.width]), device)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("floats")
}

/// The first values.
fn some<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let mut values = floats(tensor);
    values.truncate(24);
    values
}

/// The gradients of all parameters, hashed.
struct Gradients<'a> {
    hasher: Sha256,
    gradients: &'a burn::tensor::Gradients,
}

impl ModuleVisitor for Gradients<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<D>>) {
        if let Some(gradient) = parameter.val().grad(self.gradients) {
            self.hasher.update(parameter.id.val().to_le_bytes());
            for value in floats(gradient) {
                self.hasher.update(value.to_le_bytes());
            }
        }
    }
}

fn kernels() -> String {
    model::ops::path().expect("kernels").name().to_owned()
}

/// What the program of today says.
fn golden(config: NetworkConfig, input: InputShape, seed: u64) -> (Golden, Network) {
    let (classes, device) = (4, Device::flex());
    let network = config.init(input, classes, seed, &device).expect("it fits");
    let x = images(input, &device);
    let (features, signature) = network.features(x.clone());
    let stages = network.stages(x.clone());
    let groups = network.layer_groups();
    let golden = Golden {
        input,
        classes,
        seed,
        kernels: kernels(),
        record: record_of(&network)
            .into_iter()
            .map(|(name, id, data)| (name, id, data.shape().to_vec()))
            .collect(),
        weights_sha256: weights_sha256(&network),
        logits: floats(network.forward(x.clone())),
        folded: floats(network.clone().folded().forward(x)),
        features: some(features),
        signature: some(signature),
        stages: stages.iter().map(Tensor::dims).collect(),
        stage_sums: stages.into_iter().map(|maps| floats(maps.sum())[0]).collect(),
        groups: [groups.features, groups.classifier],
        training: training(&config, input, classes, seed),
        config,
    };
    (golden, network)
}

fn training(config: &NetworkConfig, input: InputShape, classes: usize, seed: u64) -> Training {
    let device = Device::flex().autodiff();
    let network = config.init(input, classes, seed, &device).expect("it fits");
    device.seed(7);
    let logits = network.forward(images(input, &device));
    let targets: Vec<i32> = (0..IMAGES as i32).collect();
    let targets = Tensor::from_data(TensorData::new(targets, [IMAGES]), &device);
    let gradients = model::ops::cross_entropy(logits.clone(), targets, None, 0.0).backward();
    let mut found = Gradients { hasher: Sha256::new(), gradients: &gradients };
    network.visit(&mut found);
    Training {
        logits: floats(logits.inner()),
        gradients_sha256: hexadecimal(found.hasher.finalize()),
        weights_sha256: weights_sha256(&network),
    }
}

/// Names, ids and values of a record of Burn, in their order.
fn record_of(network: &Network) -> Vec<(String, u64, TensorData)> {
    let bytes = network.clone().into_record().into_bytes().expect("a record");
    let tensors = Reader::from_bytes(bytes).expect("a burnpack").into_tensors().expect("tensors");
    tensors
        .into_iter()
        .map(|tensor| {
            let (name, dtype, shape, id, bytes) = tensor.into_parts().expect("a tensor");
            (name, id.expect("an id"), TensorData::from_bytes(bytes, shape, dtype))
        })
        .collect()
}

fn description(golden: &Golden) -> Description {
    let channels = golden.input.channels;
    Description {
        network: golden.config.clone(),
        preprocessing: Preprocessing {
            input: golden.input,
            mean: vec![0.4; channels],
            std: vec![0.3; channels],
            fit: Fit::default(),
        },
        classes: (0..golden.classes).map(|class| format!("class {class}")).collect(),
        task: model::Task::default(),
        provenance: BTreeMap::new(),
        confidence: None,
        seen: None,
    }
}

/// Writes what is not there yet.
fn write(name: &str, toml: &str, input: InputShape, small: bool) {
    let path = |extension: &str| folder().join(format!("{name}.{extension}"));
    if path("json").exists() {
        return;
    }
    let config: NetworkConfig = toml::from_str(toml).expect("a configuration");
    let (golden, network) = golden(config, input, 3);
    if small {
        fs::write(path("kiln"), encode(&network, description(&golden)).expect("a model")).expect("written");
        let record = network.into_record().into_bytes().expect("a record");
        fs::write(path("bpk"), &record[..]).expect("written");
    }
    let json = serde_json::to_string(&golden).expect("JSON").replace(",\"", ",\n\"");
    fs::write(path("json"), json + "\n").expect("written");
}

/// Equal bits where the kernels are those of the golden, and nearly equal elsewhere.
fn assert_same(what: &str, exact: bool, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let close = (found - expected).abs() <= 1e-5 * expected.abs().max(1.0);
        let same = if exact { found.to_bits() == expected.to_bits() } else { close };
        assert!(same, "{what}, value {index}: {found}, expected {expected}");
    }
}

#[test]
fn networks_of_before_load_and_compute_the_same() {
    for &(name, toml, input, small) in CASES {
        if std::env::var_os("KILN_WRITE_GOLDENS").is_some() {
            write(name, toml, input, small);
        }
        let text = fs::read_to_string(folder().join(format!("{name}.json"))).expect("a golden");
        let expected: Golden = serde_json::from_str(&text).expect("its form");
        let config: NetworkConfig = toml::from_str(toml).expect("a configuration");
        assert_eq!(config, expected.config, "{name}");
        let (found, _) = golden(config, input, expected.seed);
        let exact = found.kernels == expected.kernels;
        let same = |what: &str, found: &[f32], expected: &[f32]| {
            assert_same(&format!("{name}: {what}"), exact, found, expected);
        };
        assert_eq!(found.weights_sha256, expected.weights_sha256, "{name}");
        assert_eq!(found.record, expected.record, "{name}");
        assert_eq!(found.stages, expected.stages, "{name}");
        assert_eq!(found.groups, expected.groups, "{name}");
        same("logits", &found.logits, &expected.logits);
        same("folded", &found.folded, &expected.folded);
        same("features", &found.features, &expected.features);
        same("signature", &found.signature, &expected.signature);
        same("training", &found.training.logits, &expected.training.logits);
        if exact {
            same("stages", &found.stage_sums, &expected.stage_sums);
            assert_eq!(found.training.gradients_sha256, expected.training.gradients_sha256, "{name}");
            assert_eq!(found.training.weights_sha256, expected.training.weights_sha256, "{name}");
        }

        if !small {
            continue;
        }
        // Another network with the weights of the files.
        let device = Device::flex();
        let kept = |extension: &str| fs::read(folder().join(format!("{name}.{extension}"))).expect("a file");
        let other = expected.config.init(input, expected.classes, 99, &device).expect("it fits");
        let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(kept("bpk"))).expect("a record");
        let loaded = other.try_load_record(record).expect("it loads");
        assert_eq!(weights_sha256(&loaded), expected.weights_sha256, "{name}");
        let model = decode(&kept("kiln"), &device).expect("it loads");
        assert_eq!(weights_sha256(&model.network), expected.weights_sha256, "{name}");
        assert_eq!(model.metadata.network, expected.config, "{name}");
        let logits = floats(model.network.forward(images(input, &device)));
        same("of the file", &logits, &expected.logits);
    }
}
