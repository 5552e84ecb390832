//! Weights of other programs, tested.
//!
//! Longer than other files: what a file of weights may lack, hold beyond or be is one table.

use std::collections::BTreeMap;

use burn::tensor::{Bytes, DType, Device, Tensor};
use burn_pack::Writer;
use serde::Deserialize;

use super::*;
use crate::{MlpConfig, ResNetConfig, named_tensors};

/// Written by `tests/golden/networks.py`, with the logits of PyTorch and torchvision.
const GOLDEN: &str = include_str!("../../../../tests/golden/networks.json");

#[derive(Deserialize)]
struct Golden {
    name: String,
    config: NetworkConfig,
    input: [usize; 3],
    classes: usize,
    tensors: Vec<(String, Vec<usize>)>,
    logits: Vec<Vec<f32>>,
}

/// Largest difference of a logit, absolute up to a magnitude of 1 and relative above.
const TOLERANCE: f32 = 1e-4;

/// `count` values in `[-0.5, 0.5)`: `noise` of the script.
fn noise(count: usize, stream: u64) -> impl Iterator<Item = f64> {
    let start = ((stream + 1) * 0x85EB_CA77 % (1 << 32)) as u32;
    (1..=count as u32).map(move |index| {
        let mut x = index.wrapping_mul(0x9E37_79B1).wrapping_add(start);
        x ^= x >> 16;
        x = x.wrapping_mul(0x7FEB_352D);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846C_A68B);
        x ^= x >> 16;
        f64::from(x >> 8) / f64::from(1 << 24) - 0.5
    })
}

/// The weights that the script gave to PyTorch.
struct Made(Vec<(String, Vec<usize>)>);

impl WeightSource for Made {
    fn format(&self) -> &'static str {
        "made"
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout::PyTorch
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.0.clone()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        let stream = self.0.iter().position(|(own, _)| own == name).unwrap();
        let shape = &self.0[stream].1;
        let fan_in: usize = shape[1..].iter().product();
        let factor: fn(f64, f64) -> f64 = match shape.len() {
            _ if name.ends_with("running_var") => |value, _| 1.0 + value,
            1 if name.ends_with(".bn2.weight") || name.ends_with(".bn3.weight") => |v, _| (1.0 + v) * 0.3,
            1 if name.ends_with("weight") => |value, _| 1.0 + value,
            4 => |value, fan_in| value * 2.0 * (6.0 / fan_in).sqrt(),
            2 => |value, fan_in| value * 2.0 * (3.0 / fan_in).sqrt(),
            _ => |value, _| value * 0.2,
        };
        let count = shape.iter().product();
        Ok(noise(count, stream as u64).map(|value| factor(value, fan_in as f64) as f32).collect())
    }
}

fn images(count: usize, input: InputShape, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = noise(count * input.len(), 1_000_000).map(|value| (value * 4.0) as f32).collect();
    Tensor::from_data(TensorData::new(values, [count, input.channels, input.height, input.width]), device)
}

fn faults(name: &str, logits: Tensor<2>, expected: &[Vec<f32>]) -> Vec<String> {
    let [_, classes] = logits.dims();
    let found = logits.into_data().try_to_vec::<f32>().unwrap();
    let mut faults = vec![];
    for (image, (found, expected)) in found.chunks(classes).zip(expected).enumerate() {
        let top = |values: &[f32]| (0..classes).max_by(|&a, &b| values[a].total_cmp(&values[b]));
        if top(found) != top(expected) {
            faults.push(format!(
                "{name}, image {image}: class {:?}, expected {:?}",
                top(found),
                top(expected)
            ));
        }
        for (class, (found, expected)) in found.iter().zip(expected).enumerate() {
            if (found - expected).abs() > TOLERANCE * expected.abs().max(1.0) {
                faults.push(format!("{name}, image {image}, class {class}: {found}, expected {expected}"));
            }
        }
    }
    faults
}

#[test]
fn networks_with_foreign_weights_give_the_logits_of_pytorch() {
    let device = Device::flex();
    let entries: Vec<Golden> = serde_json::from_str(GOLDEN).unwrap();
    assert!(entries.len() >= 15, "{} networks", entries.len());
    let mut wrong = vec![];
    for golden in entries {
        let Golden { name, config, input: [c, h, w], classes, tensors, logits } = golden;
        let input = InputShape::new(c, h, w);
        let source = Made(tensors);
        let empty = config.init_empty(input, classes, &device).unwrap();
        let (network, report) =
            load_foreign(empty, &config, input, classes, &source, |_| Loading::Required).unwrap();
        assert!(report.is_complete() && report.loaded.len() == source.0.len(), "{name}: {report:?}");
        let images = images(logits.len(), input, &device);
        wrong.extend(faults(&name, network.forward(images.clone()), &logits));
        let folded = network.folded();
        wrong.extend(faults(&format!("{name} folded"), folded.forward(images), &logits));
        let normalised = named_tensors(&folded).iter().any(|(name, _)| name.ends_with("norm.gamma"));
        // The last convolution of a residual block and the layers of a transformer keep theirs.
        assert_eq!(normalised, matches!(config, NetworkConfig::ResNet(_) | NetworkConfig::Vit(_)), "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A small network in every container that is bytes, with PyTorch's logits.
#[test]
fn safetensors_of_both_widths_give_the_logits_of_pytorch() {
    #[derive(Deserialize)]
    struct Small {
        config: NetworkConfig,
        input: [usize; 3],
        classes: usize,
        logits: Vec<Vec<f32>>,
    }
    let golden = include_str!("../../../../tests/golden/weights/logits.json");
    let Small { config, input: [c, h, w], classes, logits } = serde_json::from_str(golden).unwrap();
    let (input, device) = (InputShape::new(c, h, w), Device::flex());
    for (bytes, exact) in [
        (&include_bytes!("../../../../tests/golden/weights/f32.safetensors")[..], true),
        (&include_bytes!("../../../../tests/golden/weights/f16.safetensors")[..], false),
    ] {
        let source = SafetensorsWeights::new(bytes.to_vec()).unwrap();
        let empty = config.init_empty(input, classes, &device).unwrap();
        let (network, _) =
            load_foreign(empty, &config, input, classes, &source, |_| Loading::Required).unwrap();
        let found = network.forward(images(logits.len(), input, &device));
        let wrong = faults("containers", found.clone(), &logits);
        // Half precision keeps three digits; that it does not keep four shows that it was read.
        assert_eq!(wrong.is_empty(), exact, "{wrong:?}");
        for (found, expected) in found.into_data().iter::<f32>().zip(logits.iter().flatten()) {
            assert!((found - expected).abs() < 5e-3, "{found}, expected {expected}");
        }
    }
}

const INPUT: InputShape = InputShape::new(1, 2, 3);

fn mlp(hidden: usize) -> NetworkConfig {
    NetworkConfig::Mlp(MlpConfig { hidden: vec![hidden], ..MlpConfig::default() })
}

/// A source in memory; what it was asked for shows in a test by the values.
struct Memory(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Memory {
    fn new(tensors: &[(&str, &[usize])]) -> Self {
        let filled = |shape: &[usize]| (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        Self(
            tensors
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), (shape.to_vec(), filled(shape))))
                .collect(),
        )
    }
}

impl WeightSource for Memory {
    fn format(&self) -> &'static str {
        "memory"
    }

    fn layout(&self) -> WeightLayout {
        WeightLayout::PyTorch
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.0.iter().map(|(name, (shape, _))| (name.clone(), shape.clone())).collect()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, ForeignError> {
        assert!(!name.contains("never"), "{name} must not be read");
        Ok(self.0[name].1.clone())
    }
}

fn load(
    hidden: usize,
    source: &Memory,
    loading: impl Fn(&str) -> Loading,
) -> Result<(Network, LoadReport), ForeignError> {
    let device = Device::flex();
    let network = mlp(hidden).init(INPUT, 2, 1, &device).unwrap();
    load_foreign(network, &mlp(hidden), INPUT, 2, source, loading)
}

const WHOLE: &[(&str, &[usize])] =
    &[("blocks.0.weight", &[4, 6]), ("blocks.0.bias", &[4]), ("head.weight", &[2, 4]), ("head.bias", &[2])];

#[test]
fn dense_weights_are_transposed() {
    let (network, report) = load(4, &Memory::new(WHOLE), |_| Loading::Required).unwrap();
    assert_eq!(report.loaded, ["blocks.0.bias", "blocks.0.weight", "head.bias", "head.weight"]);
    let tensors = named_tensors(&network);
    assert_eq!(tensors[3].1, TensorData::from([[0f32, 4.], [1., 5.], [2., 6.], [3., 7.]]));
}

/// [`WHOLE`] behind a prefix.
fn behind(prefix: &str) -> Vec<(String, &'static [usize])> {
    WHOLE.iter().map(|(name, shape)| (format!("{prefix}{name}"), *shape)).collect()
}

fn memory(tensors: &[(String, &[usize])]) -> Memory {
    let tensors: Vec<(&str, &[usize])> =
        tensors.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
    Memory::new(&tensors)
}

#[test]
fn what_stands_around_names_is_taken_off() {
    let wrappers = [
        "module.",
        "state_dict.",
        "model_state_dict.",
        "model.",
        "network.Mlp.",
        "net.",
        "backbone.",
        "_orig_mod.",
        "encoder.",
        "resnet.",
        "trunk.body.",
    ];
    let mut prefixes: Vec<String> = wrappers.map(String::from).into();
    for outer in wrappers {
        prefixes.extend(wrappers.map(|inner| format!("{outer}{inner}")));
    }
    prefixes.extend(
        ["state_dict.model.module._orig_mod.", "ckpt.state_dict._orig_mod.module.net.backbone."]
            .map(String::from),
    );
    for prefix in prefixes {
        for beside in [None, Some("optimizer.state.0.momentum_buffer.never"), Some("hyper.parameters.never")]
        {
            let mut tensors = behind(&prefix);
            tensors.extend(beside.map(|name| (name.to_owned(), &[7][..])));
            let (_, report) = load(4, &memory(&tensors), |_| Loading::Required)
                .unwrap_or_else(|error| panic!("{prefix}: {error}"));
            assert!(report.is_complete() && report.loaded.len() == 4, "{prefix}: {report:?}");
            assert_eq!(report.others, [""; 0], "{prefix}");
        }
    }
    // A wrapper inside of the names.
    let tensors = [("net.blocks.0._orig_mod.weight", &[4, 6][..]), ("net.blocks.0._orig_mod.bias", &[4])];
    let mut tensors: Vec<_> = tensors.iter().map(|(name, shape)| ((*name).to_owned(), *shape)).collect();
    tensors.extend(behind("net.").split_off(2));
    assert!(load(4, &memory(&tensors), |_| Loading::Required).unwrap().1.is_complete());
}

#[test]
fn of_weights_and_their_average_the_weights_are_taken() {
    for (weights, average) in [
        ("model.", "model_ema."),
        ("state_dict.", "state_dict_ema."),
        ("model.", "ema.module."),
        ("state_dict.student.net.", "state_dict.teacher.net."),
        ("module.encoder_q.", "module.encoder_k."),
        ("a.longer.name.", "swa."),
    ] {
        let mut tensors = behind(weights);
        tensors.extend(behind(average));
        let (_, report) = load(4, &memory(&tensors), |_| Loading::Required).unwrap();
        let taken_out = |prefix: &str| prefix.replace("module.", "");
        assert_eq!(report.prefix, taken_out(weights));
        assert_eq!(report.others, [taken_out(average)]);
    }
}

#[test]
fn faults_say_where_they_were_looked_for() {
    let mut tensors = behind("state_dict.net.");
    tensors[0].1 = &[4, 7];
    tensors.push(("state_dict.net.extra.never".to_owned(), &[3]));
    let message = load(4, &memory(&tensors), |_| Loading::Required).unwrap_err().to_string();
    for part in [
        "under `state_dict.net`",
        "unexpected: state_dict.net.extra.never",
        "is [7, 4], expected [6, 4]",
        "--allow-mismatch",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    // What fits is taken, if that is wanted; and something must.
    let (_, report) = load(4, &memory(&tensors), |_| Loading::Optional).unwrap();
    assert_eq!((report.loaded.len(), report.mismatched.len(), report.unexpected.len()), (3, 1, 1));
    let others = Memory::new(&[("vit.embeddings.patch_embeddings.projection.weight", &[8, 3, 4, 4])]);
    let message = load(4, &others, |_| Loading::Optional).unwrap_err().to_string();
    assert!(message.contains("not one tensor") && message.contains("Hugging Face"), "{message}");
    // Of many names the first.
    let many: Vec<(String, &[usize])> = (0..100).map(|at| (format!("x.y{at}.weight"), &[1][..])).collect();
    let message = load(4, &memory(&many), |_| Loading::Required).unwrap_err().to_string();
    assert!(message.contains("under `x`") && message.contains("and 88 more"), "{message}");
}

/// The tutorials' net, as a sequence and with names of its own.
#[test]
fn layers_in_a_row_are_told_by_their_order() {
    let config = NetworkConfig::Cnn(crate::CnnConfig {
        blocks: vec![crate::ConvBlockConfig::new(3), crate::ConvBlockConfig::new(5)],
        dense: vec![7],
        ..crate::CnnConfig::default()
    });
    let input = InputShape::new(1, 9, 9);
    let device = Device::flex();
    let features = 5 * 5 * 5;
    let shapes: [&[usize]; 4] = [&[3, 1, 3, 3], &[5, 3, 3, 3], &[7, features], &[2, 7]];
    let sets: [[&str; 4]; 6] = [
        ["0", "3", "7", "10"],
        ["2", "10", "100", "1000"],
        ["conv1", "conv2", "fc1", "fc2"],
        ["features.0", "features.3", "classifier.1", "classifier.4"],
        ["layer1.0", "layer2.0", "fc", "out"],
        ["net.0", "net.2", "net.5", "net.9"],
    ];
    for (set, prefix) in sets.iter().flat_map(|set| ["", "state_dict.model."].map(|prefix| (set, prefix))) {
        let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
        for (layer, shape) in set.iter().zip(shapes) {
            tensors.push((format!("{prefix}{layer}.weight"), shape.to_vec()));
            tensors.push((format!("{prefix}{layer}.bias"), shape[..1].to_vec()));
        }
        let tensors: Vec<(&str, &[usize])> =
            tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
        let source = Memory::new(&tensors);
        let network = config.init(input, 2, 1, &device).unwrap();
        let (network, report) =
            load_foreign(network, &config, input, 2, &source, |_| Loading::Required).unwrap();
        assert_eq!(report.loaded.len(), 8, "{set:?}");
        let named = named_tensors(&network);
        let second = &named.iter().find(|(name, _)| name == "blocks.1.conv.weight").unwrap().1;
        assert_eq!(second.shape().to_vec(), [5, 3, 3, 3], "{set:?}");
        assert_eq!(input_channels(&source, &config), Some(1), "{set:?}");
    }
    // Another number of layers is no match.
    let source = Memory::new(&[("0.weight", &[3, 1, 3, 3]), ("0.bias", &[3])]);
    let network = config.init(input, 2, 1, &device).unwrap();
    let message =
        load_foreign(network, &config, input, 2, &source, |_| Loading::Required).unwrap_err().to_string();
    assert!(message.contains("missing: blocks.0.conv.bias"), "{message}");
}

/// Hugging Face's ResNet and timm's transformer, by the shapes that ours has.
#[test]
fn names_of_other_libraries_are_known() {
    let input = InputShape::new(3, 28, 28);
    let resnet = NetworkConfig::ResNet(ResNetConfig { depth: 18, ..ResNetConfig::default() });
    let vit = NetworkConfig::named("vit-tiny").unwrap().config;
    let hugging_face = |name: &str| {
        let name = name.replace("stem.conv", "embedder.embedder.convolution");
        let name = name.replace("stem.norm", "embedder.embedder.normalization");
        let mut parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        if parts[0] == "blocks" {
            let block: usize = parts[1].parse().unwrap();
            parts[0] = "encoder.stages".into();
            parts[1] = format!("{}.layers.{}", block / 2, block % 2);
            if parts[2] == "convs" {
                parts[2] = "layer".into();
            } else {
                parts[2] = "shortcut".into();
            }
        }
        let name = parts.join(".").replace(".conv.", ".convolution.").replace(".norm.", ".normalization.");
        let name = name.replace("gamma", "weight").replace("beta", "bias");
        match name.strip_prefix("head") {
            Some(part) => format!("classifier.1{part}"),
            None => format!("resnet.{name}"),
        }
    };
    let timm = |name: &str| {
        let mut name = name.to_owned();
        for (ours, theirs) in [
            ("embedding.patches.conv", "patch_embed.proj"),
            ("embedding.patches", "patch_embed.proj"),
            ("embedding.class_token", "cls_token"),
            ("attention_norm", "norm1"),
            ("mlp_norm", "norm2"),
            ("attention.inputs", "attn.qkv"),
            ("attention.output", "attn.proj"),
            ("widen", "mlp.fc1"),
            ("narrow", "mlp.fc2"),
            ("gamma", "weight"),
            ("beta", "bias"),
        ] {
            name = name.replace(ours, theirs);
        }
        if name.starts_with("embedding.") { "pos_embed".to_owned() } else { name }
    };
    let check = |config: &NetworkConfig, naming: &dyn Fn(&str) -> String| {
        let expected: Vec<_> = config.summary(input, 10).unwrap().tensors().cloned().collect();
        let tensors = expected.iter().map(|tensor| {
            let mut shape = tensor.shape.clone();
            if shape.len() == 2 {
                shape.reverse();
            }
            (naming(&tensor.name), shape)
        });
        let tensors: Vec<(String, Vec<usize>)> = tensors.collect();
        for (name, _) in &tensors {
            assert!(tensors.iter().filter(|(other, _)| other == name).count() == 1, "{name} twice");
        }
        let source = Made(tensors);
        let network = config.init_empty(input, 10, &Device::flex()).unwrap();
        let loaded = load_foreign(network, config, input, 10, &source, |_| Loading::Required);
        let (_, report) = loaded.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.loaded.len(), expected.len());
        assert_eq!(input_channels(&source, config), Some(3));
    };
    check(&resnet, &hugging_face);
    check(&vit, &timm);
}

#[test]
fn every_fault_is_named_and_nothing_of_a_wrong_shape_is_read() {
    let tensors: &[(&str, &[usize])] = &[
        ("blocks.0.weight", &[4, 1_000_000_000]),
        ("head.weight", &[3, 4]),
        ("head.bias", &[2]),
        ("extra.never", &[9]),
    ];
    // Values of such a size must not even be asked for.
    let sizes = tensors.iter().map(|(name, shape)| ((*name).to_owned(), (shape.to_vec(), vec![])));
    let source = Memory(sizes.collect());
    let error = load(4, &source, |_| Loading::Required).unwrap_err();
    let message = error.to_string();
    for part in [
        "missing: blocks.0.bias",
        "unexpected: extra.never",
        "blocks.0.weight is [1000000000, 4], expected [6, 4]",
        "head.weight is [4, 3], expected [4, 2]",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_head_of_other_classes_can_be_left_out() {
    let mut tensors = WHOLE.to_vec();
    tensors[2].1 = &[7, 4];
    tensors[3].1 = &[7];
    let optional = |name: &str| if name.starts_with("head.") { Loading::Optional } else { Loading::Required };
    let (network, report) = load(4, &Memory::new(&tensors), optional).unwrap();
    assert_eq!((report.loaded.len(), report.mismatched.len()), (2, 2));
    let fresh = mlp(4).init(INPUT, 2, 1, &Device::flex()).unwrap();
    assert_eq!(named_tensors(&network)[2..], named_tensors(&fresh)[2..]);
    assert_ne!(named_tensors(&network)[..2], named_tensors(&fresh)[..2]);
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    let mut source = Memory::new(WHOLE);
    source.0.get_mut("head.bias").unwrap().1[1] = f32::NAN;
    let message = load(4, &source, |_| Loading::Required).unwrap_err().to_string();
    assert!(message.contains("head.bias holds NaN at index 1"), "{message}");
    source.0.get_mut("head.bias").unwrap().1.pop();
    let message = load(4, &source, |_| Loading::Required).unwrap_err().to_string();
    assert!(message.contains("head.bias: 1 values"), "{message}");
}

#[test]
fn the_first_layer_says_how_many_channels_it_takes() {
    let config = |depth| NetworkConfig::ResNet(ResNetConfig { depth, ..ResNetConfig::default() });
    for (name, depth) in
        [("conv1.weight", 18), ("state_dict.module.conv1.weight", 20), ("stem.conv.weight", 20)]
    {
        let source = Memory::new(&[("layer1.0.conv1.weight", &[1, 9, 3, 3]), (name, &[2, 3, 3, 3])]);
        assert_eq!(input_channels(&source, &config(depth)), Some(3), "{name}");
    }
    assert_eq!(input_channels(&Memory::new(WHOLE), &mlp(4)), None);
}

fn burnpack(network: &Network) -> Vec<u8> {
    let tensors = named_tensors(network)
        .into_iter()
        .map(|(name, data)| {
            let bytes: Vec<u8> = data.iter::<f32>().flat_map(f32::to_le_bytes).collect();
            let shape = data.shape().clone();
            burn_pack::Tensor::new(name, DType::F32, shape, None, Bytes::from_bytes_vec(bytes))
        })
        .collect();
    Writer::new(tensors).into_bytes().unwrap().to_vec()
}

#[test]
fn burnpacks_keep_our_layout_and_model_files_are_verified() {
    let device = Device::flex();
    let config = mlp(6); // A square layer: a transposition would go unnoticed by its shape.
    let network = config.init(INPUT, 2, 3, &device).unwrap();
    let description = crate::Description {
        network: config.clone(),
        preprocessing: crate::Preprocessing { input: INPUT, ..crate::Preprocessing::mnist() },
        classes: vec!["a".into(), "b".into()],
        task: crate::Task::default(),
        provenance: BTreeMap::new(),
        confidence: None,
        seen: None,
    };
    let sealed = crate::encode(&network, description).unwrap();
    for bytes in [burnpack(&network), sealed.clone()] {
        let source = BurnpackWeights::new(bytes).unwrap();
        let empty = config.init_empty(INPUT, 2, &device).unwrap();
        let (loaded, _) = load_foreign(empty, &config, INPUT, 2, &source, |_| Loading::Required).unwrap();
        assert_eq!(named_tensors(&loaded), named_tensors(&network));
    }
    let mut bent = sealed;
    let middle = bent.len() - 60;
    bent[middle] ^= 1;
    let message = BurnpackWeights::new(bent).unwrap_err().to_string();
    assert!(message.contains("damaged"), "{message}");
}

/// Cuts and flipped bits: an error or another network, never a panic.
/// A reader of one format.
type Opener = fn(Vec<u8>) -> Result<Box<dyn WeightSource>, ForeignError>;

#[test]
fn damaged_bytes_never_panic() {
    let device = Device::flex();
    let config = mlp(3);
    let network = config.init(INPUT, 2, 3, &device).unwrap();
    let safetensors = include_bytes!("../../../../tests/golden/weights/f32.safetensors").to_vec();
    let load = |source: Result<Box<dyn WeightSource>, ForeignError>| {
        source.is_ok_and(|source| {
            let loaded =
                load_foreign(network.clone(), &config, INPUT, 2, source.as_ref(), |_| Loading::Optional);
            // A sound file of another network is not what this is about.
            matches!(loaded, Ok(_) | Err(ForeignError::Nothing { .. }))
        })
    };
    let open: [(Vec<u8>, Opener); 2] = [
        (safetensors, |bytes| Ok(Box::new(SafetensorsWeights::new(bytes)?))),
        (burnpack(&network), |bytes| Ok(Box::new(BurnpackWeights::new(bytes)?))),
    ];
    for (bytes, open) in open {
        assert!(load(open(bytes.clone())));
        for len in 0..bytes.len() {
            assert!(open(bytes[..len].to_vec()).is_err(), "cut to {len} of {} bytes", bytes.len());
        }
        let mut refused = 0;
        for position in 0..bytes.len().min(1200) {
            for flip in [1, 0x10, 0x80, 0xFF] {
                let mut bent = bytes.clone();
                bent[position] ^= flip;
                refused += usize::from(!load(open(bent)));
            }
        }
        assert!(refused > 100, "{refused} refused");
    }
}
