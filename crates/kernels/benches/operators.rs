//! The operators one by one; items are floating-point operations, so Gitem/s reads as GFLOP/s.
//!
//! `cargo bench -p kernels [-- FILTER]`. Beside them stands Burn's matrix product, the measure of what
//! the machine does. `KILN_KERNELS` forces a path, `RAYON_NUM_THREADS` the number of threads.

use burn::tensor::{Device, Distribution, Tensor};
use divan::{Bencher, counter::ItemsCount};
use kernels::{Activation, ConvBlock, Pool, batch_norm_train, conv_block, linear};

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
    fn block(&self) -> ConvBlock {
        let (padding, activation) = ([self.padding; 2], Activation::Relu);
        ConvBlock { padding, activation, pool: self.pool, ..ConvBlock::default() }
    }

    fn tensors(&self, device: &Device) -> (Tensor<4>, Tensor<4>, Tensor<1>) {
        let [channels, height, width] = self.input;
        (
            random([BATCH, channels, height, width], device),
            random([self.features, channels, self.kernel, self.kernel], device),
            random([self.features], device),
        )
    }

    /// Multiplications and additions of the convolution, pooled positions included.
    fn work(&self) -> usize {
        let [channels, height, width] = self.input;
        let side = |size: usize| size + 2 * self.padding - self.kernel + 1;
        2 * BATCH * self.features * channels * self.kernel * self.kernel * side(height) * side(width)
    }
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

#[divan::bench(args = &CASES)]
fn conv_forward(bencher: Bencher, case: &Case) {
    let (images, weight, bias) = case.tensors(&Device::flex());
    let block = case.block();
    bencher
        .counter(ItemsCount::new(case.work()))
        .bench(|| conv_block(images.clone(), weight.clone(), Some(bias.clone()), &block));
}

/// The backward pass alone: the gradients of weight and bias, and of the images behind a first layer.
#[divan::bench(args = &CASES)]
fn conv_backward(bencher: Bencher, case: &Case) {
    let (images, weight, bias) = case.tensors(&Device::flex().autodiff());
    let is_first = case.input[0] <= 3;
    let images = images.set_require_grad(!is_first);
    let (weight, bias) = (weight.require_grad(), bias.require_grad());
    let block = case.block();
    bencher
        .counter(ItemsCount::new(case.work() * if is_first { 1 } else { 2 }))
        .with_inputs(|| conv_block(images.clone(), weight.clone(), Some(bias.clone()), &block).sum())
        .bench_values(|loss| loss.backward());
}

/// One image at a time, as a service sees them.
#[divan::bench(args = &CASES)]
fn conv_of_one_image(bencher: Bencher, case: &Case) {
    let (images, weight, bias) = case.tensors(&Device::flex());
    let image = images.narrow(0, 0, 1);
    let block = case.block();
    bencher
        .counter(ItemsCount::new(case.work() / BATCH))
        .bench(|| conv_block(image.clone(), weight.clone(), Some(bias.clone()), &block));
}

#[divan::bench(args = [[1600, 10], [1600, 128], [400, 120]])]
fn linear_forward(bencher: Bencher, [inputs, outputs]: [usize; 2]) {
    let device = Device::flex();
    let (x, weight) = (random([BATCH, inputs], &device), random([inputs, outputs], &device));
    bencher
        .counter(ItemsCount::new(2 * BATCH * inputs * outputs))
        .bench(|| linear(x.clone(), weight.clone(), None, Activation::None));
}

/// Forward and backward; items are values.
#[divan::bench(args = [[16, 32], [64, 16]])]
fn batch_norm(bencher: Bencher, [channels, side]: [usize; 2]) {
    let device = Device::flex().autodiff();
    let x = random([BATCH, channels, side, side], &device).require_grad();
    let gamma = random([channels], &device).require_grad();
    let beta = random([channels], &device).require_grad();
    bencher.counter(ItemsCount::new(BATCH * channels * side * side)).bench(|| {
        let found = batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-5, None, Activation::Relu);
        found.output.sum().backward()
    });
}

/// What the machine does: Burn's matrix product.
#[divan::bench(args = [512, 1024])]
fn matrix_product(bencher: Bencher, side: usize) {
    let device = Device::flex();
    let (a, b) = (random([side, side], &device), random([side, side], &device));
    bencher.counter(ItemsCount::new(2 * side * side * side)).bench(|| a.clone().matmul(b.clone()));
}
