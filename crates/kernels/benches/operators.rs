//! The operators one by one; items are floating-point operations, so Gitem/s reads as GFLOP/s.
//!
//! `cargo bench -p kernels [-- FILTER]`. `KILN_KERNELS` forces a path, `RAYON_NUM_THREADS` the number of threads. Burn's
//! matrix product, the measure of what the machine does, and whole networks are timed by `model`'s example `throughput`.

use divan::{Bencher, counter::ItemsCount};
use kernels::{
    Path,
    conv::{self, ConvBlock, Geometry, Inputs, Wanted},
    dense, lanes, norm,
    pointwise::{self, Activation, Pointwise},
    pool::Pool,
};

fn main() {
    kernels::keep_freed_memory();
    divan::main();
}

const BATCH: usize = 128;
const MAX: Pool = Pool::Max { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };
const AVERAGE: Pool = Pool::Average { kernel: [2, 2], stride: [2, 2], padding: [0, 0] };

/// A convolution with its rectifier and pooling.
struct Case {
    name: &'static str,
    input: [usize; 3],
    features: usize,
    kernel: usize,
    padding: usize,
    pool: Pool,
}

impl std::fmt::Display for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

const fn case(
    name: &'static str,
    input: [usize; 3],
    [features, kernel, padding]: [usize; 3],
    pool: Pool,
) -> Case {
    Case { name, input, features, kernel, padding, pool }
}

static CASES: [Case; 13] = [
    case("3x3 1-32 on 28x28, maximum", [1, 28, 28], [32, 3, 0], MAX),
    case("3x3 32-64 on 13x13, maximum", [32, 13, 13], [64, 3, 0], MAX),
    case("5x5 1-6 on 28x28, average", [1, 28, 28], [6, 5, 2], AVERAGE),
    case("5x5 6-16 on 14x14, average", [6, 14, 14], [16, 5, 0], AVERAGE),
    case("3x3 3-16 on 32x32", [3, 32, 32], [16, 3, 1], Pool::None),
    case("3x3 16-16 on 32x32", [16, 32, 32], [16, 3, 1], Pool::None),
    case("3x3 16-16 on 32x32, unpadded", [16, 32, 32], [16, 3, 0], Pool::None),
    case("3x3 32-32 on 28x28", [32, 28, 28], [32, 3, 1], Pool::None),
    case("3x3 32-32 on 16x16", [32, 16, 16], [32, 3, 1], Pool::None),
    case("3x3 64-64 on 32x32", [64, 32, 32], [64, 3, 1], Pool::None),
    case("3x3 64-64 on 32x32, maximum", [64, 32, 32], [64, 3, 1], MAX),
    case("3x3 64-64 on 8x8", [64, 8, 8], [64, 3, 1], Pool::None),
    case("1x1 64-64 on 16x16", [64, 16, 16], [64, 1, 0], Pool::None),
];

impl Case {
    /// The sizes for so many images.
    fn geometry(&self, images: usize) -> Geometry {
        let [channels, height, width] = self.input;
        let block = ConvBlock {
            padding: [self.padding; 2],
            activation: Activation::Relu,
            pool: self.pool,
            ..ConvBlock::default()
        };
        let weight = [self.features, channels, self.kernel, self.kernel];
        Geometry::new([images, channels, height, width], weight, &block).expect("sizes with a fast path")
    }

    /// Values of images, weight and bias.
    fn values(&self, images: usize) -> [Vec<f32>; 3] {
        let [channels, height, width] = self.input;
        [
            random(images * channels * height * width),
            random(self.features * channels * self.kernel * self.kernel),
            random(self.features),
        ]
    }

    /// Multiplications and additions of the convolution for a batch, pooled positions included.
    fn work(&self) -> usize {
        let [channels, height, width] = self.input;
        let side = |size: usize| size + 2 * self.padding - self.kernel + 1;
        2 * BATCH * self.features * channels * self.kernel * self.kernel * side(height) * side(width)
    }
}

fn path() -> Path {
    kernels::path().expect("KILN_KERNELS names a path of this processor")
}

/// Values in `[-1, 1)` from a linear congruential generator (Knuth's MMIX constants).
fn random(len: usize) -> Vec<f32> {
    let mut state = len as u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1_u64 << 30) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[divan::bench(args = &CASES)]
fn conv_forward(bencher: Bencher, case: &Case) {
    let (geometry, [images, weight, bias]) = (case.geometry(BATCH), case.values(BATCH));
    bencher
        .counter(ItemsCount::new(case.work()))
        .bench(|| conv::forward(path(), &geometry, &images, &weight, &bias, false).0);
}

/// The backward pass alone: the gradients of weight and bias, and of the images behind a first layer.
#[divan::bench(args = &CASES)]
fn conv_backward(bencher: Bencher, case: &Case) {
    let (geometry, [images, weight, bias]) = (case.geometry(BATCH), case.values(BATCH));
    let (output, saved) = conv::forward(path(), &geometry, &images, &weight, &bias, true);
    let gradient = random(output.len());
    let inputs = Inputs {
        images: &images,
        weight: &weight,
        output: geometry.keeps_output(lanes(path())).then_some(&output[..]),
        gradient: &gradient,
        gradient_last: false,
    };
    let is_first = case.input[0] <= 3;
    let wanted = Wanted { images: !is_first, weight: true };
    bencher
        .counter(ItemsCount::new(case.work() * if is_first { 1 } else { 2 }))
        .bench(|| conv::backward(&saved, inputs, wanted));
}

/// One image at a time, as a service sees them.
#[divan::bench(args = &CASES)]
fn conv_of_one_image(bencher: Bencher, case: &Case) {
    let (geometry, [image, weight, bias]) = (case.geometry(1), case.values(1));
    bencher
        .counter(ItemsCount::new(case.work() / BATCH))
        .bench(|| conv::forward(path(), &geometry, &image, &weight, &bias, false).0);
}

#[divan::bench(args = [[1600, 10], [1600, 128], [400, 120]])]
fn linear_forward(bencher: Bencher, [inputs, outputs]: [usize; 2]) {
    let sizes = dense::Sizes { samples: BATCH, inputs, outputs, relu: false };
    let (x, weight, bias) = (random(BATCH * inputs), random(inputs * outputs), random(outputs));
    bencher
        .counter(ItemsCount::new(2 * BATCH * inputs * outputs))
        .bench(|| dense::forward(path(), sizes, &x, &weight, &bias));
}

/// Forward and backward; items are values.
#[divan::bench(args = [[16, 32], [64, 16]])]
fn batch_norm(bencher: Bencher, [channels, side]: [usize; 2]) {
    let sizes = norm::Sizes::new([BATCH, channels, side, side], 1e-5, Activation::Relu, false);
    let len = BATCH * channels * side * side;
    let (x, gradient) = (random(len), random(len));
    let (gamma, beta) = (random(channels), random(channels));
    bencher.counter(ItemsCount::new(len)).bench(|| {
        let found = norm::statistics(path(), sizes, &x);
        let output = norm::normalize(path(), sizes, &x, &found, &gamma, &beta, None);
        norm::backward(path(), sizes, &x, &found, &gamma, Some(&output), &gradient, false)
    });
}

/// Items are values.
#[divan::bench(args = [Pointwise::Tanh, Pointwise::Silu, Pointwise::Gelu])]
fn pointwise_forward(bencher: Bencher, function: Pointwise) {
    let x = random(1 << 18);
    bencher.counter(ItemsCount::new(x.len())).bench(|| pointwise::forward(path(), function, &x));
}
