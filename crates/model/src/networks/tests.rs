//! The networks against definitions, published figures and each other.
//!
//! Longer than other files: one test for each network, and for what must hold of all.

use burn::{
    module::{Flag, Module, ModuleVisitor, Param},
    optim::{AdamConfig, GradientsParams},
    tensor::{Int, Tensor, TensorData},
};
use proptest::prelude::*;

use super::*;
use crate::{
    Activation, Convolution, GraphBuilder, Initialization, NodeId, PoolConfig, PoolKind, load, named_tensors,
    ops,
};

const MNIST: InputShape = InputShape::new(1, 28, 28);

fn summary_of(config: &CnnConfig, input: InputShape, classes: usize) -> Result<Summary, ShapeError> {
    NetworkConfig::Cnn(config.clone()).summary(input, classes)
}

fn init(
    config: &CnnConfig,
    input: InputShape,
    classes: usize,
    seed: u64,
    device: &Device,
) -> Result<Network, ShapeError> {
    NetworkConfig::Cnn(config.clone()).init(input, classes, seed, device)
}

fn block(channels: usize) -> ConvBlockConfig {
    ConvBlockConfig::new(channels)
}

#[expect(clippy::unnecessary_wraps, reason = "it is the value of a field")]
fn max_pool() -> Option<PoolConfig> {
    Some(PoolConfig::default())
}

/// Reproducible values between -1 and 1.
fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn images(n: usize, input: InputShape, seed: u64, device: &Device) -> Tensor<4> {
    let shape = [n, input.channels, input.height, input.width];
    Tensor::from_data(TensorData::new(noise(n * input.len(), seed), shape), device)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

#[test]
fn the_default_net_is_the_tutorials_net() {
    let summary = summary_of(&CnnConfig::default(), MNIST, 10).unwrap();
    assert_eq!(summary.parameters(), 34_826);
    let rows: Vec<_> = summary.layers.iter().map(|l| (l.name.as_str(), &l.output[..], l.macs)).collect();
    let expected: [(&str, &[usize], u64); 9] = [
        ("input", &[1, 28, 28], 0),
        ("blocks.0.conv", &[32, 26, 26], 32 * 26 * 26 * 9),
        ("blocks.0.activation", &[32, 26, 26], 0),
        ("blocks.0.pool", &[32, 13, 13], 0),
        ("blocks.1.conv", &[64, 11, 11], 64 * 11 * 11 * 32 * 9),
        ("blocks.1.activation", &[64, 11, 11], 0),
        ("blocks.1.pool", &[64, 5, 5], 0),
        ("flatten", &[1600], 0),
        ("head", &[10], 1600 * 10),
    ];
    assert_eq!(rows, expected);
    assert_eq!(summary.macs(), 2_440_960);

    let dense = CnnConfig { dense: vec![128], ..CnnConfig::default() };
    let summary = summary_of(&dense, MNIST, 10).unwrap();
    assert_eq!(summary.parameters(), 225_034);
    // 194,688 + 2,230,272 + 1600 * 128 + 128 * 10
    assert_eq!(summary.macs(), 2_631_040);
}

#[test]
fn macs_and_parameters_with_stride_padding_and_batch_norm() {
    let config = CnnConfig {
        blocks: vec![ConvBlockConfig { kernel: 5, stride: 2, padding: 2, ..block(6) }],
        batch_norm: true,
        ..CnnConfig::default()
    };
    // Rows: (9 + 4 - 5) / 2 + 1 = 5; columns: (12 + 4 - 5) / 2 + 1 = 6.
    let summary = summary_of(&config, InputShape::new(3, 9, 12), 4).unwrap();
    let [_, conv, norm, ..] = &summary.layers[..] else { panic!("too few layers") };
    assert_eq!((&conv.output[..], conv.parameters), (&[6, 5, 6][..], 6 * 3 * 25));
    assert_eq!(conv.macs, 6 * 5 * 6 * 3 * 25);
    // Scale and shift are trained, the running mean and variance are not.
    assert_eq!((norm.parameters, norm.tensors.len()), (12, 4));
    assert_eq!(summary.parameters(), 450 + 12 + (180 * 4 + 4));
    assert_eq!(summary.macs(), 13_500 + 720);
}

#[test]
fn impossible_nets_name_the_layer_and_the_sizes() {
    let net = |blocks| CnnConfig { blocks, ..CnnConfig::default() };
    let pooled = |channels| ConvBlockConfig { pool: max_pool(), ..block(channels) };
    let cases = [
        (
            net(vec![pooled(4), pooled(4), pooled(4), pooled(4)]),
            "blocks.3.conv: a 3x3 kernel does not fit into its 1x1 input with padding 0",
        ),
        (
            net(vec![pooled(4), pooled(4), ConvBlockConfig { kernel: 5, ..pooled(4) }]),
            "blocks.2.pool: a 2x2 kernel does not fit into its 1x1 input",
        ),
        (net(vec![block(0)]), "blocks.0.conv: `channels` is 0"),
        (net(vec![ConvBlockConfig { kernel: 0, ..block(1) }]), "blocks.0.conv: `kernel` is 0"),
        (net(vec![ConvBlockConfig { stride: 0, ..block(1) }]), "blocks.0.conv: `stride` is 0"),
        (
            net(vec![ConvBlockConfig {
                pool: Some(PoolConfig { kernel: 0, ..PoolConfig::default() }),
                ..block(1)
            }]),
            "blocks.0.pool: `kernel` is 0",
        ),
        (
            net(vec![ConvBlockConfig {
                pool: Some(PoolConfig { stride: Some(0), ..PoolConfig::default() }),
                ..block(1)
            }]),
            "blocks.0.pool: `stride` is 0",
        ),
        (
            net(vec![ConvBlockConfig {
                pool: Some(PoolConfig { padding: 2, ..PoolConfig::default() }),
                ..block(1)
            }]),
            "blocks.0.pool: padding 2 is more than half of the kernel 2, so that a window could hold padding only; use at most 1",
        ),
        (net(vec![ConvBlockConfig { dropout: 1.0, ..block(1) }]), "blocks.0.dropout: `dropout` is 1;"),
        (CnnConfig { dropout: f64::NAN, ..CnnConfig::default() }, "dropout: `dropout` is NaN"),
        (CnnConfig { dense: vec![8, 0], ..CnnConfig::default() }, "dense.1: `outputs` is 0"),
        (
            CnnConfig { dense: vec![usize::MAX], ..CnnConfig::default() },
            "dense.0: output values for one image exceed the limit of 16777216",
        ),
        (
            CnnConfig { dense: vec![1 << 24, 1 << 24], ..CnnConfig::default() },
            "dense.0: the parameters so far exceed the limit of 2147483648",
        ),
        (net(vec![block(usize::MAX)]), "blocks.0.conv: output values for one image exceed"),
        (
            net(vec![ConvBlockConfig { padding: usize::MAX, ..block(1) }]),
            "blocks.0.conv: values of the padded input exceed the limit of 16777216",
        ),
        (
            net(vec![ConvBlockConfig { kernel: 1, stride: 9999, padding: 9999, ..block(1) }]),
            "blocks.0.conv: values of the padded input exceed",
        ),
        (
            net(vec![ConvBlockConfig { kernel: 100, padding: 1000, ..block(1) }]),
            "blocks.0.conv: the values under all kernel positions exceed",
        ),
        (
            CnnConfig { initialization: Initialization::Normal { std: 0.0 }, ..CnnConfig::default() },
            "initialization: `std` is 0; it must be positive and finite",
        ),
    ];
    let device = Device::flex();
    for (config, message) in cases {
        let error = summary_of(&config, MNIST, 10).unwrap_err();
        assert!(error.to_string().contains(message), "{error}\nexpected {message}");
        let init = init(&config, MNIST, 10, 1, &device).unwrap_err();
        assert_eq!(error.to_string(), init.to_string());
    }
    let default = CnnConfig::default();
    let message = |input, classes| summary_of(&default, input, classes).unwrap_err().to_string();
    assert_eq!(message(MNIST, 1), "head: 1 classes; a classifier needs at least 2");
    assert!(message(InputShape::new(0, 28, 28), 10).starts_with("input: `channels` is 0"));
    assert!(message(InputShape::new(1, usize::MAX, 2), 10).starts_with("input: output values"));
    assert!(
        message(InputShape::new(1, 28, 2), 10)
            .starts_with("blocks.0.conv: a 3x3 kernel does not fit into its 28x2 input")
    );
}

#[test]
fn without_blocks_it_is_a_dense_net() {
    let config = CnnConfig { blocks: vec![], dense: vec![30], ..CnnConfig::default() };
    assert_eq!(summary_of(&config, MNIST, 10).unwrap().parameters(), 785 * 30 + 310);
    let net = init(&config, MNIST, 10, 1, &Device::flex()).unwrap();
    assert_eq!(net.forward(images(3, MNIST, 1, &Device::flex())).dims(), [3, 10]);
}

/// Worked example of the tutorials: the frameworks' convolution is a cross-correlation.
#[test]
fn the_worked_example_gives_the_known_result() {
    let config =
        CnnConfig { blocks: vec![ConvBlockConfig { kernel: 2, ..block(1) }], ..CnnConfig::default() };
    let device = Device::flex();
    let net = init(&config, InputShape::new(1, 3, 3), 2, 1, &device).unwrap();
    let mut tensors = named_tensors(&net);
    for (name, data) in &mut tensors {
        if name == "blocks.0.conv.weight" {
            *data = TensorData::new(vec![1.0f32, 0.0, 0.0, 1.0], [1, 1, 2, 2]);
        }
    }
    let net = load(net, &tensors).unwrap();
    let x = Tensor::<4>::from_floats([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]], &device);
    assert_eq!(values(net.features(x).0), [6.0, 8.0, 12.0, 14.0]);
}

/// Pooling straight from its definition; padding never wins a maximum and counts as zero in a
/// mean.
fn naive_pool(x: &[f32], [n, h, w]: [usize; 3], pool: &PoolConfig) -> Vec<f32> {
    let (kernel, stride, padding) = (pool.kernel, pool.stride(), pool.padding);
    let mut out = vec![];
    for plane in x.chunks_exact(h * w).take(n) {
        for top in (0..=h + 2 * padding - kernel).step_by(stride) {
            for left in (0..=w + 2 * padding - kernel).step_by(stride) {
                let mut window = vec![];
                for row in top..top + kernel {
                    for column in left..left + kernel {
                        if (padding..h + padding).contains(&row) && (padding..w + padding).contains(&column) {
                            window.push(plane[(row - padding) * w + column - padding]);
                        }
                    }
                }
                out.push(match pool.kind {
                    PoolKind::Max => window.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                    PoolKind::Average => window.iter().sum::<f32>() / (kernel * kernel) as f32,
                });
            }
        }
    }
    out
}

/// Convolution straight from its definition, for one image.
fn naive_conv(
    x: &[f32],
    input: InputShape,
    weight: &[f32],
    bias: &[f32],
    config: &ConvBlockConfig,
) -> Vec<f32> {
    let InputShape { channels, height, width } = input;
    let ConvBlockConfig { kernel, stride, padding, .. } = *config;
    let mut out = vec![];
    for (o, bias) in bias.iter().enumerate() {
        for top in (0..=height + 2 * padding - kernel).step_by(stride) {
            for left in (0..=width + 2 * padding - kernel).step_by(stride) {
                let mut sum = f64::from(*bias);
                for c in 0..channels {
                    for k in 0..kernel {
                        for l in 0..kernel {
                            let (row, column) = (top + k, left + l);
                            if row < padding || column < padding {
                                continue;
                            }
                            let (row, column) = (row - padding, column - padding);
                            if row < height && column < width {
                                let w = weight[((o * channels + c) * kernel + k) * kernel + l];
                                sum += f64::from(w) * f64::from(x[(c * height + row) * width + column]);
                            }
                        }
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

fn assert_close(found: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        prop_assert!(
            (found - expected).abs() <= 1e-5 * expected.abs().max(1.0),
            "{index}: {found}, expected {expected}"
        );
    }
    Ok(())
}

prop_compose! {
    fn any_pool()(kernel in 1usize..5)
        (kind in prop_oneof![Just(PoolKind::Max), Just(PoolKind::Average)], kernel in Just(kernel),
         stride in proptest::option::of(1usize..4), padding in 0..=kernel / 2) -> PoolConfig {
        PoolConfig { kind, kernel, stride, padding }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Both ways to a pooling, Burn's operator and the fused one behind a 1x1 identity.
    #[test]
    fn pooling_equals_its_definition(pool in any_pool(), n in 1usize..4, h in 4usize..14, w in 4usize..14, seed: u64) {
        let device = Device::flex();
        let x = images(n, InputShape::new(1, h, w), seed, &device);
        let expected = naive_pool(&values(x.clone()), [n, h, w], &pool);
        assert_close(&values(pool.forward(x.clone())), &expected)?;
        let identity = Tensor::<4>::ones([1, 1, 1, 1], &device);
        let options = ops::ConvBlock {
            stride: [1, 1], padding: [0, 0], groups: 1, activation: ops::Activation::None, pool: pool.fused(),
        };
        assert_close(&values(ops::conv_block(x, identity, None, &options)), &expected)?;
    }

    /// A whole block with every activation, fused and not, against the definitions.
    #[test]
    fn a_block_equals_its_definition(
        activation in prop_oneof![Just(Activation::Relu), Just(Activation::Tanh), Just(Activation::Gelu)],
        pool in proptest::option::of(any_pool()),
        channels in 1usize..4, kernel in 1usize..4, stride in 1usize..3, padding in 0usize..3,
        inputs in 1usize..3, h in 9usize..13, w in 9usize..13, seed: u64,
    ) {
        let config = CnnConfig {
            blocks: vec![ConvBlockConfig { channels, kernel, stride, padding, pool, dropout: 0.0 }],
            activation,
            initialization: Initialization::FanInUniform,
            ..CnnConfig::default()
        };
        let (device, input) = (Device::flex(), InputShape::new(inputs, h, w));
        let net = init(&config, input, 2, seed, &device).unwrap();
        let tensors = named_tensors(&net);
        let tensor = |part: &str| -> Vec<f32> {
            let (_, data) = tensors.iter().find(|(name, _)| name == &format!("blocks.0.conv.{part}")).unwrap();
            data.try_to_vec().unwrap()
        };
        let x = images(1, input, seed, &device);
        let (weight, bias) = (tensor("weight"), tensor("bias"));
        let conv = naive_conv(&values(x.clone()), input, &weight, &bias, &config.blocks[0]);
        let summary = summary_of(&config, input, 2).unwrap();
        let [_, h, w] = summary.layers[1].output[..] else { panic!("a convolution puts out [C, H, W]") };
        let shape = [channels, h, w];
        let conv = Tensor::<3>::from_data(TensorData::new(conv, shape), &device);
        let mut expected = values(activation.forward(conv));
        if let Some(pool) = pool {
            expected = naive_pool(&expected, shape, &pool);
        }
        assert_close(&values(net.features(x).0), &expected)?;
    }

    /// What the summary promises, the network does: shape of the output, names and shapes of
    /// all tensors in the order of a visit.
    #[test]
    fn network_and_summary_agree(
        blocks in proptest::collection::vec(
            (1usize..5, 1usize..4, 1usize..3, 0usize..2, proptest::option::of(any_pool()), prop_oneof![Just(0.0), Just(0.3)]), 0..4),
        dense in proptest::collection::vec(1usize..9, 0..3),
        dropout in prop_oneof![Just(0.0), Just(0.5)],
        batch_norm: bool,
        classes in 2usize..5,
        h in 1usize..16,
        w in 1usize..16,
    ) {
        let blocks = blocks.into_iter().map(|(channels, kernel, stride, padding, pool, dropout)| {
            ConvBlockConfig { channels, kernel, stride, padding, pool, dropout }
        }).collect();
        let config = CnnConfig { blocks, dense, dropout, batch_norm, ..CnnConfig::default() };
        let (device, input) = (Device::flex(), InputShape::new(2, h, w));
        let Ok(summary) = summary_of(&config, input, classes) else {
            prop_assert!(init(&config, input, classes, 1, &device).is_err());
            return Ok(());
        };
        let network = init(&config, input, classes, 1, &device).unwrap();
        let found: Vec<_> = crate::weights::record::tensors_in_order(&network)
            .into_iter().map(|(name, data)| (name, data.shape().to_vec())).collect();
        let expected: Vec<_> = summary.tensors().map(|t| (t.name.clone(), t.shape.clone())).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(network.forward(images(2, input, 1, &device)).dims(), [2, classes]);
    }
}

/// Ids of all parameters, running statistics and flags in the order of a visit.
#[derive(Default)]
struct Ids(Vec<u64>);

impl ModuleVisitor for Ids {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.id.val());
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.push(flag.id.val());
    }
}

#[test]
fn parameter_ids_count_from_one_in_the_order_of_a_visit() {
    let config = CnnConfig {
        blocks: vec![ConvBlockConfig { dropout: 0.1, ..block(2) }, block(3)],
        dense: vec![5],
        dropout: 0.5,
        batch_norm: true,
        ..CnnConfig::default()
    };
    let net = init(&config, MNIST, 10, 1, &Device::flex().autodiff()).unwrap();
    let mut ids = Ids::default();
    net.visit(&mut ids);
    assert_eq!(ids.0, (1..=18).collect::<Vec<_>>());
}

#[test]
fn weights_depend_on_the_seed_alone() {
    let config = NetworkConfig::default();
    let init = |seed, device: &Device| named_tensors(&config.init(MNIST, 10, seed, device).unwrap());
    let device = Device::flex();
    let first = init(1, &device);
    device.seed(99);
    assert_eq!(first, init(1, &device));
    assert_eq!(first, init(1, &device.clone().autodiff()));
    assert_ne!(first, init(2, &device));
    // Another head leaves the other weights as they were.
    let other = named_tensors(&config.init(MNIST, 7, 1, &device).unwrap());
    assert_eq!(first[..4], other[..4]);
    assert_eq!(first[3].0, "blocks.1.conv.weight");
}

#[test]
fn every_weight_is_trained_on_an_autodiff_device() {
    let config = CnnConfig { dense: vec![6], batch_norm: true, ..CnnConfig::default() };
    let device = Device::flex().autodiff();
    let net = init(&config, MNIST, 10, 1, &device).unwrap();
    let loss = ops::cross_entropy(net.forward(images(4, MNIST, 1, &device)), targets(4, &device), None, 0.0);
    let gradients = GradientsParams::from_grads(loss.backward(), &net);
    // Two convolutions without bias, two norms of two, two dense layers of two.
    assert_eq!(gradients.len(), 2 + 4 + 4);
}

fn targets(n: usize, device: &Device) -> Tensor<1, Int> {
    let classes: Vec<i32> = (0..n as i32).map(|i| i % 10).collect();
    Tensor::from_data(TensorData::new(classes, [n]), device)
}

#[test]
fn dropout_acts_in_training_only() {
    let config = CnnConfig {
        blocks: vec![ConvBlockConfig { dropout: 0.5, pool: max_pool(), ..block(4) }],
        dense: vec![16],
        dropout: 0.5,
        ..CnnConfig::default()
    };
    let device = Device::flex().autodiff();
    let net = init(&config, MNIST, 10, 1, &device).unwrap();
    let x = images(2, MNIST, 1, &device);
    device.seed(1);
    let first = values(net.forward(x.clone()));
    assert_ne!(first, values(net.forward(x.clone())));
    device.seed(1);
    assert_eq!(first, values(net.forward(x.clone())));

    let evaluated = net.valid();
    let x = images(2, MNIST, 1, &Device::flex());
    let logits = values(evaluated.forward(x.clone()));
    assert_eq!(logits, values(evaluated.forward(x.clone())));
    let without =
        CnnConfig { dropout: 0.0, blocks: vec![ConvBlockConfig { pool: max_pool(), ..block(4) }], ..config };
    // Flags take ids, so the streams differ: move the weights over instead of drawing them.
    let without = init(&without, MNIST, 10, 2, &Device::flex()).unwrap();
    let without = load(without, &named_tensors(&evaluated)).unwrap();
    assert_eq!(logits, values(without.forward(x)));
}

#[test]
fn batch_norm_uses_the_batch_in_training_and_its_statistics_in_evaluation() {
    let config = CnnConfig { blocks: vec![block(3)], batch_norm: true, ..CnnConfig::default() };
    let device = Device::flex().autodiff();
    let net = init(&config, MNIST, 10, 1, &device).unwrap();
    let x = images(8, MNIST, 1, &device);
    let before = values(net.valid().forward(x.clone().inner()));
    for _ in 0..200 {
        net.forward(x.clone());
    }
    let after = values(net.valid().forward(x.clone().inner()));
    assert_ne!(before, after);
    // After 200 times the same batch the statistics are the batch's, but for the correction of
    // the variance by n / (n - 1) with n = 8 * 26 * 26.
    for (after, trained) in after.iter().zip(values(net.forward(x))) {
        assert!((after - trained).abs() < 2e-3, "{after}, in training {trained}");
    }
}

#[test]
fn one_batch_is_learned_by_heart() {
    for (batch_norm, activation) in [(false, Activation::Relu), (true, Activation::Silu)] {
        let config = CnnConfig {
            blocks: vec![
                ConvBlockConfig { pool: max_pool(), ..block(6) },
                ConvBlockConfig { pool: max_pool(), ..block(8) },
            ],
            dense: vec![16],
            activation,
            batch_norm,
            ..CnnConfig::default()
        };
        let device = Device::flex().autodiff();
        let input = InputShape::new(1, 14, 14);
        let mut net = init(&config, input, 10, 1, &device).unwrap();
        let mut optimizer = AdamConfig::new().init();
        let (x, y) = (images(20, input, 3, &device), targets(20, &device));
        let mut losses = vec![];
        for _ in 0..80 {
            let loss = ops::cross_entropy(net.forward(x.clone()), y.clone(), None, 0.0);
            losses.push(values(loss.clone())[0]);
            let gradients = GradientsParams::from_grads(loss.backward(), &net);
            net = optimizer.step(1e-2, net, gradients);
        }
        let last = losses[losses.len() - 1];
        assert!(losses[0] > 1.5 && last < 0.02, "from {} to {last}", losses[0]);
    }
}

/// Convolution straight from its definition, for one image: every group sees its own channels, places lie apart by the
/// dilation, and each side has its own padding.
fn general_conv(
    x: &[f32],
    [channels, height, width]: [usize; 3],
    weight: &[f32],
    bias: &[f32],
    form: &Convolution,
) -> Vec<f32> {
    let Convolution { channels: outputs, kernel, stride, padding, dilation, groups, .. } = *form;
    let inputs = channels / groups;
    let side = |n: usize, axis: usize| {
        (n + padding[axis] + padding[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1
    };
    let mut out = vec![];
    for o in 0..outputs {
        for r in 0..side(height, 0) {
            for c in 0..side(width, 1) {
                let mut sum = f64::from(bias[o]);
                for i in 0..inputs {
                    for (k, l) in (0..kernel[0]).flat_map(|k| (0..kernel[1]).map(move |l| (k, l))) {
                        let row = (r * stride[0] + k * dilation[0])
                            .checked_sub(padding[0])
                            .filter(|row| *row < height);
                        let column = (c * stride[1] + l * dilation[1])
                            .checked_sub(padding[1])
                            .filter(|column| *column < width);
                        let (Some(row), Some(column)) = (row, column) else { continue };
                        let channel = o / (outputs / groups) * inputs + i;
                        let weight = weight[((o * inputs + i) * kernel[0] + k) * kernel[1] + l];
                        sum += f64::from(weight) * f64::from(x[(channel * height + row) * width + column]);
                    }
                }
                out.push(sum as f32);
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Groups, dilation and a padding that differs from side to side, plain and before a rectifier, from shape to values.
    #[test]
    fn every_convolution_equals_its_definition(
        groups in 1usize..4, per_group in (1usize..3, 1usize..3),
        kernel in (1usize..4, 1usize..4), stride in (1usize..3, 1usize..3), dilation in (1usize..3, 1usize..3),
        padding in proptest::array::uniform4(0usize..3), rectified: bool, seed: u64,
    ) {
        let input = InputShape::new(groups * per_group.0, 8, 9);
        let form = Convolution {
            channels: groups * per_group.1, kernel: kernel.into(), stride: stride.into(), padding,
            dilation: dilation.into(), groups, bias: true,
        };
        let mut net = GraphBuilder::new("Test", input, 2).unwrap();
        let mut x = net.convolution("conv", net.image(), form).unwrap();
        if rectified {
            x = net.activation("activation", x, Activation::Relu).unwrap();
        }
        let shape = net.shape(x).to_vec();
        x = net.flatten("flatten", x).unwrap();
        let device = Device::flex();
        let net = Network::new(net.finish(x).unwrap(), Initialization::FanInUniform, Some(seed), &device);
        let tensors = named_tensors(&net);
        let tensor = |name: &str| -> Vec<f32> {
            tensors.iter().find(|(found, _)| found == name).unwrap().1.try_to_vec().unwrap()
        };
        let x = images(1, input, seed, &device);
        let sizes = [input.channels, input.height, input.width];
        let mut expected =
            general_conv(&values(x.clone()), sizes, &tensor("conv.weight"), &tensor("conv.bias"), &form);
        if rectified {
            for value in &mut expected {
                *value = value.max(0.0);
            }
        }
        prop_assert_eq!(shape.iter().product::<usize>(), expected.len());
        assert_close(&values(net.features(x).0), &expected)?;
    }
}

/// Two branches side by side, channels weighed, a shortcut: what a network of such layers gives, by hand.
#[test]
fn joints_compute_what_they_say() {
    let mut net = GraphBuilder::new("Test", InputShape::new(2, 1, 2), 2).unwrap();
    let image = net.image();
    let doubled = net.add(image, image).unwrap();
    let both = net.concatenate("both", &[image, doubled]).unwrap(); // [4, 1, 2]
    let means = net.average("means", both, 1).unwrap();
    let means = net.flatten("flatten", means).unwrap();
    let scaled = net.scale("scaled", both, means).unwrap();
    net.stage(scaled);
    let thin = net.thin(scaled, 2, 3).unwrap(); // [7, 1, 1]
    let x = net.flatten("features", thin).unwrap();
    let net = Network::new(net.finish(x).unwrap(), Initialization::default(), Some(1), &Device::flex());
    let x = Tensor::<4>::from_floats([[[[1.0, 3.0]], [[-1.0, 2.0]]]], &Device::flex());
    // Means 2, 0.5, 4, 1 times the first values 1, -1, 2, -2.
    assert_eq!(values(net.features(x.clone()).0), [0.0, 2.0, -0.5, 8.0, -2.0, 0.0, 0.0]);
    let stages = net.stages(x.clone());
    assert_eq!(stages.len(), 1);
    let whole = values(net.forward(x));
    assert_eq!(values(net.classify_features(net.gather(stages[0].clone()).0)), whole);
}

#[test]
fn layers_that_do_not_fit_are_refused_by_name() {
    let net = || GraphBuilder::new("Test", InputShape::new(3, 6, 6), 2).unwrap();
    let refused = |result: Result<NodeId, ShapeError>, message: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}\nexpected {message}");
    };
    let form = Convolution::square(4, 3, 1, 0, true);
    let mut graph = net();
    let image = graph.image();
    refused(
        graph.convolution("a", image, Convolution { groups: 2, ..form }),
        "a: the input's channels 3 is not a multiple of the groups, 2; choose groups that divide both",
    );
    refused(
        graph.convolution("a", image, Convolution { dilation: [3, 1], ..form }),
        "a: a 7x3 kernel does not fit into its 6x6 input with padding 0",
    );
    refused(
        graph.convolution("a", image, Convolution { dilation: [9; 2], padding: [1, 0, 0, 2], ..form }),
        "a: a 19x19 kernel does not fit into its 6x6 input with padding 1 0 0 2",
    );
    for zero in [
        Convolution { dilation: [1, 0], ..form },
        Convolution { groups: 0, ..form },
        Convolution { kernel: [0, 1], ..form },
    ] {
        refused(graph.convolution("a", image, zero), "a: `");
    }
    let huge = Convolution { kernel: [usize::MAX; 2], dilation: [usize::MAX; 2], ..form };
    refused(graph.convolution("a", image, huge), "a: a 18446744073709551615x");
    let flat = graph.flatten("flat", image).unwrap();
    refused(
        graph.convolution("a", flat, form),
        "a: takes maps [channels, height, width], found an input of the shape [108]",
    );
    refused(graph.dense("a", image, 3), "a: takes [features] or [steps, features], found");
    refused(graph.attention("a", flat, 2), "a: takes [steps, features], found");
    refused(graph.add(image, flat), "the sum behind input: takes two inputs of [3, 6, 6]");
    let small = graph.pool("pool", image, PoolConfig::default()).unwrap();
    refused(graph.concatenate("a", &[image, small]), "a: takes maps of 6x6, as its first input, found");
    refused(graph.concatenate("a", &[]), "a: `inputs` is 0");
    refused(graph.scale("a", image, flat), "a: takes [3], a factor for each channel, found");
}

/// The last stage is one through which alone the image goes on, so that explanations can begin there.
#[test]
fn stages_beside_which_the_image_passes_are_none() {
    let mut net = GraphBuilder::new("Test", InputShape::new(1, 4, 4), 2).unwrap();
    let form = Convolution::square(1, 1, 1, 0, true);
    let first = net.convolution("a", net.image(), form).unwrap();
    net.stage(first);
    let second = net.convolution("b", first, form).unwrap();
    net.stage(second);
    let sum = net.add(second, first).unwrap();
    let x = net.flatten("flatten", sum).unwrap();
    let stages: Vec<NodeId> = net.finish(x).unwrap().stages().collect();
    assert_eq!(stages, [first]);
}

/// Of every network: all that stands between two convolutions is done in the steps of the two.
#[test]
fn plans_fuse_what_can_be_fused() {
    use crate::graph::plan::{Plan, Work};
    let steps = |config: &str, input| {
        let config: NetworkConfig = toml::from_str(config).unwrap();
        let graph = config.graph(input, 10).unwrap();
        let steps = Plan::new(&graph, &[]).steps;
        let singles = steps.iter().filter(|step| step.work == Work::Single).count();
        let paired =
            steps.iter().filter(|step| matches!(step.work, Work::Convolution { next: Some(_), .. })).count();
        (steps.len(), singles, paired)
    };
    // Two blocks, flatten, head.
    assert_eq!(steps("name = 'cnn'", MNIST), (4, 1, 1));
    assert_eq!(steps("name = 'cnn'\nbatch_norm = true", MNIST), (4, 1, 0));
    // Stem, 9 blocks of two convolutions, two thin shortcuts, average, flatten, head.
    assert_eq!(steps("name = 'resnet'\ndepth = 20", InputShape::new(3, 32, 32)), (1 + 18 + 2 + 3, 4, 0));
    // Patches, tokens, 4 layers of 6 dense, 2 norms, an attention and 2 sums, the norm of the first token, head.
    let vit = steps("name = 'vit'", MNIST);
    assert_eq!(vit.0, 2 + 4 * (4 + 2 + 1 + 2) + 2);
}

/// Torchvision's counts (`sum(p.numel() for p in model.parameters())`, 0.24), and the papers'
/// where it has none.
const PARAMETERS: &[(&str, usize)] = &[
    ("cnn", 34_826),
    ("mlp", 535_818),
    ("rnn", 82_186),
    ("lenet5", 61_706),
    ("alexnet", 61_100_840),
    ("vgg11", 132_863_336),
    ("vgg11-bn", 132_868_840),
    ("vgg13", 133_047_848),
    ("vgg13-bn", 133_053_736),
    ("vgg16", 138_357_544),
    ("vgg16-bn", 138_365_992),
    ("vgg19", 143_667_240),
    ("vgg19-bn", 143_678_248),
    ("resnet18", 11_689_512),
    ("resnet34", 21_797_672),
    ("resnet50", 25_557_032),
    ("resnet101", 44_549_160),
    ("resnet152", 60_192_808),
    ("resnet20", 269_722),
    ("resnet32", 464_154),
    ("resnet44", 658_586),
    ("resnet56", 853_018),
    ("resnet110", 1_727_962),
    ("vit-tiny", 139_018),
    ("vit-b-16", 86_567_656),
    ("inception", 16_746),
];

#[test]
fn parameter_counts_are_the_published_ones() {
    let found: Vec<_> = catalog()
        .iter()
        .map(|entry| (entry.name, entry.config.summary(entry.input, entry.classes).unwrap().parameters()))
        .collect();
    assert_eq!(found, PARAMETERS);
}

#[test]
fn multiply_accumulates_are_the_published_ones() {
    // Figures of torchvision's documentation, in 10^9, rounded to two digits after the point.
    for (name, expected) in [
        ("alexnet", 0.71),
        ("vgg11", 7.61),
        ("vgg16", 15.47),
        ("vgg19-bn", 19.63),
        ("resnet18", 1.81),
        ("resnet34", 3.66),
        ("resnet50", 4.09),
    ] {
        let entry = NetworkConfig::named(name).unwrap();
        let macs = entry.config.summary(entry.input, entry.classes).unwrap().macs();
        let found = macs as f64 / 1e9;
        assert!((found - expected).abs() < 0.0051, "{name}: {found}, expected {expected}");
    }
}

#[test]
fn names_are_found_in_both_spellings() {
    assert_eq!(NetworkConfig::named("vgg16_bn").unwrap().name, "vgg16-bn");
    assert_eq!(NetworkConfig::named("vgg16-bn").unwrap().name, "vgg16-bn");
    assert!(NetworkConfig::named("vgg17").is_none());
}

#[test]
fn small_ones_give_what_their_summary_promises() {
    let device = Device::flex();
    for name in ["cnn", "mlp", "rnn", "lenet5", "vit-tiny", "resnet20", "resnet18", "resnet50", "inception"] {
        let entry = NetworkConfig::named(name).unwrap();
        for input in [entry.input, InputShape::new(3, 28, 35), InputShape::new(3, 32, 32)] {
            let Ok(summary) = entry.config.summary(input, 7) else {
                assert_eq!((name, input.width), ("vit-tiny", 32), "{name} {input}");
                continue;
            };
            let network = entry.config.init(input, 7, 1, &device).unwrap();
            let found: Vec<_> = crate::weights::record::tensors_in_order(&network)
                .into_iter()
                .map(|(name, data)| (name, data.shape().to_vec()))
                .collect();
            let expected: Vec<_> = summary.tensors().map(|t| (t.name.clone(), t.shape.clone())).collect();
            assert_eq!(found, expected, "{name} {input}");
            let images = Tensor::ones([2, input.channels, input.height, input.width], &device);
            assert_eq!(network.forward(images).dims(), [2, 7], "{name} {input}");
        }
    }
}

#[test]
fn every_network_has_features_and_a_head() {
    for entry in catalog() {
        let graph = entry.config.graph(entry.input, entry.classes).unwrap();
        let tensors = graph.nodes.iter().flat_map(|node| &node.tensors);
        let names: Vec<&str> = tensors.map(|tensor| tensor.name.as_str()).collect();
        let head: Vec<_> = names.iter().filter(|name| name.starts_with("head.")).collect();
        assert_eq!(head, [&"head.weight", &"head.bias"], "{}", entry.name);
        let groups = graph.layer_groups();
        assert!(!groups.features.is_empty(), "{}", entry.name);
        for name in names {
            let of_group = |group: &&str| name.starts_with(&format!("{group}."));
            assert_eq!(groups.iter().filter(of_group).count(), 1, "{}: {name}", entry.name);
        }
    }
}
