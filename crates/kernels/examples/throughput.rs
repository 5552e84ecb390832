//! Samples per second of a training step of the tutorials' net, and the speed of single operators.
//!
//! `cargo run --release -p kernels --example throughput [--features ndarray] [flex|ndarray] [seconds]`;
//! set `KILN_KERNELS=stock` for Burn's own operators and `RAYON_NUM_THREADS` for the number of threads.
#![expect(clippy::print_stdout, reason = "results go to stdout")]

use std::time::Instant;

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use kernels::{Activation, AdamStep, ConvBlock, Pool, adam_step, conv_block, cross_entropy, linear};

const BATCH: usize = 128;

/// Two convolutions with max-pooling and two dense layers: the net of most MNIST tutorials.
struct Net {
    device: Device,
    convolutions: Vec<(Tensor<4>, Tensor<1>)>,
    dense: Vec<(Tensor<2>, Tensor<1>)>,
    moments_4: Vec<[Tensor<4>; 2]>,
    moments_2: Vec<[Tensor<2>; 2]>,
    moments_1: Vec<[Tensor<1>; 2]>,
}

impl Net {
    fn new(device: &Device) -> Self {
        fn random<const D: usize>(shape: [usize; D], fan_in: usize, device: &Device) -> Tensor<D> {
            let bound = 1.0 / (fan_in as f64).sqrt();
            Tensor::random(shape, Distribution::Uniform(-bound, bound), device)
        }
        let convolutions = [([32, 1, 3, 3], 9), ([64, 32, 3, 3], 288)]
            .map(|(shape, fan_in)| (random(shape, fan_in, device), random([shape[0]], fan_in, device)));
        let dense = [([1600, 128], 1600), ([128, 10], 128)]
            .map(|(shape, fan_in)| (random(shape, fan_in, device), random([shape[1]], fan_in, device)));
        Self {
            device: device.clone(),
            moments_4: convolutions.iter().map(|(w, _)| [w.zeros_like(), w.zeros_like()]).collect(),
            moments_2: dense.iter().map(|(w, _)| [w.zeros_like(), w.zeros_like()]).collect(),
            moments_1: convolutions
                .iter()
                .map(|(_, b)| b)
                .chain(dense.iter().map(|(_, b)| b))
                .map(|b| [b.zeros_like(), b.zeros_like()])
                .collect(),
            convolutions: convolutions.into(),
            dense: dense.into(),
        }
    }

    /// One step of training; gives the loss.
    fn step(&mut self, images: &Tensor<4>, targets: &Tensor<1, Int>, step: usize) -> Tensor<1> {
        let device = self.device.clone().autodiff();
        let block = ConvBlock {
            activation: Activation::Relu,
            pool: Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] },
            ..ConvBlock::default()
        };
        let mut weights_4 = Vec::new();
        let mut weights_2 = Vec::new();
        let mut biases = Vec::new();
        let mut x = Tensor::<4>::from_inner(images.clone()).to_device(&device);
        for (weight, bias) in self.convolutions.drain(..) {
            let weight = Tensor::from_inner(weight).require_grad();
            let bias = Tensor::from_inner(bias).require_grad();
            x = conv_block(x, weight.clone(), Some(bias.clone()), &block);
            weights_4.push(weight);
            biases.push(bias);
        }
        let mut x: Tensor<2> = x.flatten(1, 3);
        for (index, (weight, bias)) in self.dense.drain(..).enumerate() {
            let activation = if index == 0 { Activation::Relu } else { Activation::None };
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
    kernels::keep_freed_memory();
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "flex".to_owned());
    let seconds: f64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let device = match name.as_str() {
        #[cfg(feature = "ndarray")]
        #[expect(deprecated, reason = "the backend is deprecated in Burn, and users name it")]
        "ndarray" => Device::ndarray(),
        _ => Device::flex(),
    };
    println!("device {device:?}, path {:?}", kernels::path());
    let images = Tensor::random([BATCH, 1, 28, 28], Distribution::Normal(0.0, 1.0), &device);
    let labels: Vec<i64> = (0..BATCH as i64).map(|index| index * 7 % 10).collect();
    let targets = Tensor::from_data(TensorData::new(labels, [BATCH]), &device);
    let mut net = Net::new(&device);
    let mut step = 0;
    let mut losses = Vec::new();
    let time = median(seconds, || {
        step += 1;
        let loss = net.step(&images, &targets, step);
        if step == 1 || step == 20 {
            losses.push(loss.into_data().try_to_vec::<f32>().expect("f32"));
        }
    });
    println!(
        "training: {:.0} samples/s (batch {BATCH}, {step} steps, losses {losses:?})",
        BATCH as f64 / time
    );
    let max = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    let average = Pool::Average { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
    let operators = [
        ("conv 3x3 1-32 max", [1, 28, 28], [32, 3], 0, max),
        ("conv 3x3 32-64 max", [32, 13, 13], [64, 3], 0, max),
        ("conv 5x5 1-6 average", [1, 28, 28], [6, 5], 2, average),
        ("conv 5x5 6-16 average", [6, 14, 14], [16, 5], 0, average),
        ("conv 3x3 16-16", [16, 32, 32], [16, 3], 1, Pool::None),
        ("conv 3x3 32-32", [32, 28, 28], [32, 3], 1, Pool::None),
        ("conv 3x3 64-64", [64, 32, 32], [64, 3], 1, Pool::None),
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
    let matrix = || Tensor::<2>::random([1024, 1024], Distribution::Normal(0.0, 1.0), &device);
    let (a, b) = (matrix(), matrix());
    let time = median(seconds / 3.0, || drop(a.clone().matmul(b.clone())));
    println!("{:24} {:.1} GFLOP/s", "Burn's matmul, 1024", 2.0 * 1024_f64.powi(3) / time / 1e9);
}
