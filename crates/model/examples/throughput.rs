//! Samples per second of a training step and of inference of some nets, and the speed of operators.
//!
//! `cargo run --release -p model --example throughput [--features ndarray] [flex|ndarray] [seconds]
//! [net]...` with nets `cnn`, `lenet5`, `stack` and `operators`; set `KILN_KERNELS=stock` for Burn's own
//! operators and `RAYON_NUM_THREADS` for the number of threads.
#![expect(clippy::print_stdout, reason = "results go to stdout")]

use std::time::Instant;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use model::ops::{self, Activation, AdamStep, ConvBlock, Pool, adam_step, conv_block, cross_entropy, linear};

const BATCH: usize = 128;

const MAX: Pool = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
const AVERAGE: Pool = Pool::Average { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };

/// Convolutions with a rectifier each, then dense layers.
struct Shape {
    name: &'static str,
    /// Channels, height and width.
    input: [usize; 3],
    /// Outputs, kernel, padding and pooling.
    convolutions: Vec<(usize, usize, usize, Pool)>,
    /// Inputs of the first dense layer, then the outputs of all.
    dense: Vec<usize>,
}

/// The net of most MNIST tutorials, `LeNet-5`, and a stack of convolutions without pooling.
fn shapes() -> [Shape; 3] {
    let mut stack: Vec<_> = [16, 16, 32, 32, 64].map(|channels| (channels, 3, 1, Pool::None)).into();
    stack.push((64, 3, 1, Pool::Average { kernel: [8, 8], stride: [8, 8], padding: [0, 0] }));
    [
        Shape {
            name: "cnn",
            input: [1, 28, 28],
            convolutions: vec![(32, 3, 0, MAX), (64, 3, 0, MAX)],
            dense: vec![1600, 10],
        },
        Shape {
            name: "lenet5",
            input: [1, 28, 28],
            convolutions: vec![(6, 5, 2, AVERAGE), (16, 5, 0, AVERAGE)],
            dense: vec![400, 120, 84, 10],
        },
        Shape { name: "stack", input: [3, 32, 32], convolutions: stack, dense: vec![1024, 10] },
    ]
}

struct Net {
    device: Device,
    blocks: Vec<ConvBlock>,
    convolutions: Vec<(Tensor<4>, Tensor<1>)>,
    dense: Vec<(Tensor<2>, Tensor<1>)>,
    moments_4: Vec<[Tensor<4>; 2]>,
    moments_2: Vec<[Tensor<2>; 2]>,
    moments_1: Vec<[Tensor<1>; 2]>,
}

impl Net {
    fn new(shape: &Shape, device: &Device) -> Self {
        fn random<const D: usize>(shape: [usize; D], fan_in: usize, device: &Device) -> Tensor<D> {
            let bound = 1.0 / (fan_in as f64).sqrt();
            Tensor::random(shape, Distribution::Uniform(-bound, bound), device)
        }
        let mut channels = shape.input[0];
        let (mut blocks, mut convolutions) = (Vec::new(), Vec::new());
        for &(outputs, kernel, padding, pool) in &shape.convolutions {
            let fan_in = channels * kernel * kernel;
            let weight = random([outputs, channels, kernel, kernel], fan_in, device);
            convolutions.push((weight, random([outputs], fan_in, device)));
            blocks.push(ConvBlock {
                padding: [padding; 2],
                activation: Activation::Relu,
                pool,
                ..ConvBlock::default()
            });
            channels = outputs;
        }
        let dense: Vec<_> = shape
            .dense
            .windows(2)
            .map(|pair| (random([pair[0], pair[1]], pair[0], device), random([pair[1]], pair[0], device)))
            .collect();
        Self {
            device: device.clone(),
            blocks,
            moments_4: convolutions.iter().map(|(w, _)| [w.zeros_like(), w.zeros_like()]).collect(),
            moments_2: dense.iter().map(|(w, _)| [w.zeros_like(), w.zeros_like()]).collect(),
            moments_1: convolutions
                .iter()
                .map(|(_, b)| b)
                .chain(dense.iter().map(|(_, b)| b))
                .map(|b| [b.zeros_like(), b.zeros_like()])
                .collect(),
            convolutions,
            dense,
        }
    }

    /// Images to logits.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = images;
        for (block, (weight, bias)) in self.blocks.iter().zip(&self.convolutions) {
            x = conv_block(x, weight.clone(), Some(bias.clone()), block);
        }
        let mut x: Tensor<2> = x.flatten(1, 3);
        for (index, (weight, bias)) in self.dense.iter().enumerate() {
            x = linear(x, weight.clone(), Some(bias.clone()), self.activation(index));
        }
        x
    }

    fn activation(&self, index: usize) -> Activation {
        if index + 1 < self.moments_2.len() { Activation::Relu } else { Activation::None }
    }

    /// One step of training; gives the loss.
    fn step(&mut self, images: &Tensor<4>, targets: &Tensor<1, Int>, step: usize) -> Tensor<1> {
        let device = self.device.clone().autodiff();
        let mut weights_4 = Vec::new();
        let mut weights_2 = Vec::new();
        let mut biases = Vec::new();
        let mut x = Tensor::<4>::from_inner(images.clone()).to_device(&device);
        for (block, (weight, bias)) in self.blocks.iter().zip(self.convolutions.drain(..)) {
            let weight = Tensor::from_inner(weight).require_grad();
            let bias = Tensor::from_inner(bias).require_grad();
            x = conv_block(x, weight.clone(), Some(bias.clone()), block);
            weights_4.push(weight);
            biases.push(bias);
        }
        let mut x: Tensor<2> = x.flatten(1, 3);
        for (index, (weight, bias)) in std::mem::take(&mut self.dense).into_iter().enumerate() {
            let activation = self.activation(index);
            let weight = Tensor::from_inner(weight).require_grad();
            let bias = Tensor::from_inner(bias).require_grad();
            x = linear(x, weight.clone(), Some(bias.clone()), activation);
            weights_2.push(weight);
            biases.push(bias);
        }
        let loss = cross_entropy(x, Tensor::from_inner(targets.clone()), None, 0.0);
        let mut gradients = loss.clone().backward();
        let config = AdamStep {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            learning_rate: 1e-3,
            step,
        };
        macro_rules! update {
            ($parameter:expr, $moments:expr) => {{
                let gradient = $parameter.grad_remove(&mut gradients).expect("tracked");
                let [first, second] = $moments;
                let (parameter, first, second) =
                    adam_step($parameter.inner(), gradient, first, second, &config);
                (parameter, [first, second])
            }};
        }
        let mut moments_1 = std::mem::take(&mut self.moments_1).into_iter();
        let mut biases = biases.into_iter();
        let mut next_bias = |gradients: &mut _, kept: &mut Vec<[Tensor<1>; 2]>| {
            let bias: Tensor<1> = biases.next().expect("a bias for each weight");
            let [first, second] = moments_1.next().expect("moments for each bias");
            let gradient = bias.grad_remove(gradients).expect("tracked");
            let (bias, first, second) = adam_step(bias.inner(), gradient, first, second, &config);
            kept.push([first, second]);
            bias
        };
        let mut kept = Vec::new();
        let moments_4 = std::mem::take(&mut self.moments_4);
        for (weight, moments) in weights_4.into_iter().zip(moments_4) {
            let (weight, moments) = update!(weight, moments);
            self.moments_4.push(moments);
            let bias = next_bias(&mut gradients, &mut kept);
            self.convolutions.push((weight, bias));
        }
        let moments_2 = std::mem::take(&mut self.moments_2);
        for (weight, moments) in weights_2.into_iter().zip(moments_2) {
            let (weight, moments) = update!(weight, moments);
            self.moments_2.push(moments);
            let bias = next_bias(&mut gradients, &mut kept);
            self.dense.push((weight, bias));
        }
        self.moments_1 = kept;
        loss.inner()
    }
}

/// The middle of the times of a piece of work, in seconds.
fn median(seconds: f64, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    ops::keep_freed_memory();
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "flex".to_owned());
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let device = match name.as_str() {
        #[cfg(feature = "ndarray")]
        #[expect(deprecated, reason = "the backend is deprecated in Burn, and users name it")]
        "ndarray" => Device::ndarray(),
        _ => Device::flex(),
    };
    println!("device {device:?}, path {:?}", ops::path());
    let chosen: Vec<String> = arguments.collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    for shape in shapes().iter().filter(|shape| is_chosen(shape.name)) {
        time_net(shape, &device, seconds);
    }
    if is_chosen("operators") {
        time_operators(&device, seconds);
    }
}

/// Prints samples per second of one net.
fn time_net(shape: &Shape, device: &Device, seconds: f64) {
    let images = |count: usize| {
        let [channels, height, width] = shape.input;
        Tensor::random([count, channels, height, width], Distribution::Normal(0.0, 1.0), device)
    };
    let labels: Vec<i64> = (0..BATCH as i64).map(|index| index * 7 % 10).collect();
    let targets = Tensor::from_data(TensorData::new(labels, [BATCH]), device);
    let mut net = Net::new(shape, device);
    let batch = images(BATCH);
    let mut step = 0;
    let mut losses = Vec::new();
    let time = median(seconds, || {
        step += 1;
        let loss = net.step(&batch, &targets, step);
        if step == 1 || step == 20 {
            losses.push(loss.into_data().try_to_vec::<f32>().expect("f32"));
        }
    });
    println!(
        "{} training: {:.0} samples/s (batch {BATCH}, {step} steps, losses {losses:?})",
        shape.name,
        BATCH as f64 / time
    );
    for count in [1, BATCH] {
        let images = images(count);
        let time = median(seconds / 3.0, || drop(net.forward(images.clone()).into_data()));
        println!("{} inference, batch {count}: {:.0} samples/s", shape.name, count as f64 / time);
    }
}

/// Prints the speed of single operators.
fn time_operators(device: &Device, seconds: f64) {
    let operators = [
        ("conv 3x3 1-32 max", [1, 28, 28], [32, 3], 0, MAX),
        ("conv 3x3 32-64 max", [32, 13, 13], [64, 3], 0, MAX),
        ("conv 5x5 1-6 average", [1, 28, 28], [6, 5], 2, AVERAGE),
        ("conv 5x5 6-16 average", [6, 14, 14], [16, 5], 0, AVERAGE),
        ("conv 3x3 3-16", [3, 32, 32], [16, 3], 1, Pool::None),
        ("conv 3x3 16-16", [16, 32, 32], [16, 3], 1, Pool::None),
        ("conv 3x3 16-16 unpadded", [16, 32, 32], [16, 3], 0, Pool::None),
        ("conv 3x3 32-32", [32, 28, 28], [32, 3], 1, Pool::None),
        ("conv 3x3 64-64", [64, 32, 32], [64, 3], 1, Pool::None),
        ("conv 3x3 64-64, 8x8", [64, 8, 8], [64, 3], 1, Pool::None),
    ];
    for (name, [channels, height, width], [features, kernel], padding, pool) in operators {
        let autodiff = device.clone().autodiff();
        let random =
            |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &autodiff);
        let x = random([BATCH, channels, height, width]);
        let weight = random([features, channels, kernel, kernel]).require_grad();
        let bias = Tensor::<1>::zeros([features], &autodiff).require_grad();
        let block =
            ConvBlock { padding: [padding; 2], activation: Activation::Relu, pool, ..ConvBlock::default() };
        let work = 2.0
            * (BATCH * features * channels * kernel * kernel) as f64
            * ((height + 2 * padding - kernel + 1) * (width + 2 * padding - kernel + 1)) as f64;
        let run = |x: Tensor<4>| conv_block(x, weight.clone(), Some(bias.clone()), &block);
        let forward = median(seconds / 6.0, || drop(run(x.clone())));
        let x = if channels > 1 { x.require_grad() } else { x };
        let passes = if channels > 1 { 3.0 } else { 2.0 };
        let both = median(seconds / 6.0, || drop(run(x.clone()).sum().backward()));
        println!(
            "{name:24} forward {:7.1} us/image {:6.1} GFLOP/s   forward and backward {:7.1} us/image {:6.1} GFLOP/s",
            forward / BATCH as f64 * 1e6,
            work / forward / 1e9,
            both / BATCH as f64 * 1e6,
            passes * work / both / 1e9,
        );
    }
    let matrix = || Tensor::<2>::random([1024, 1024], Distribution::Normal(0.0, 1.0), device);
    let (a, b) = (matrix(), matrix());
    let time = median(seconds / 3.0, || drop(a.clone().matmul(b.clone())));
    println!("{:24} {:.1} GFLOP/s", "Burn's matmul, 1024", 2.0 * 1024_f64.powi(3) / time / 1e9);
}
