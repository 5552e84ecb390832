//! Batch normalisation on plain memory. A task takes a channel, whose sums are added in one order, so
//! the result does not depend on the number of threads.

use rayon::prelude::*;

use crate::{
    Path,
    buffer::{Output, Part},
    pointwise::Activation,
    simd::{self, Kernel, Simd},
};

/// The sizes of `[images, channels, plane]`, and what is computed.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    images: usize,
    channels: usize,
    /// Values of a channel of one image.
    plane: usize,
    epsilon: f64,
    relu: bool,
    residual: bool,
}

impl Sizes {
    /// Of `[N, C, H, W]`, with what follows the normalisation: an addition with `residual`, and an activation, of which
    /// only the rectifier is known.
    pub fn new(shape: [usize; 4], epsilon: f64, activation: Activation, residual: bool) -> Self {
        let [images, channels, height, width] = shape;
        let relu = activation == Activation::Relu;
        Self { images, channels, plane: height * width, epsilon, relu, residual }
    }

    /// Whether a rectifier follows, so that the backward pass asks for the output.
    pub fn is_rectified(&self) -> bool {
        self.relu
    }

    /// Whether something is added.
    pub fn has_residual(&self) -> bool {
        self.residual
    }

    fn len(&self) -> usize {
        self.images * self.channels * self.plane
    }

    /// Where the planes of a channel start.
    fn starts(self, channel: usize) -> impl Iterator<Item = usize> {
        (0..self.images).map(move |image| (image * self.channels + channel) * self.plane)
    }
}

/// Mean and variance of every channel.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `[C]`.
    pub mean: Vec<f32>,
    /// `[C]`, over N * H * W values (biased), without epsilon.
    pub variance: Vec<f32>,
}

/// Runs a task for every channel.
fn for_channels<T: Send>(sizes: Sizes, task: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    // Below a few pages of values a second thread costs more than it does.
    if sizes.len() < 8192 {
        (0..sizes.channels).map(task).collect()
    } else {
        (0..sizes.channels).into_par_iter().map(task).collect()
    }
}

/// The statistics of the batch `x`.
///
/// # Panics
/// `x` of another length than `sizes`, or a processor without the path's instructions.
pub fn statistics(path: Path, sizes: Sizes, x: &[f32]) -> Statistics {
    assert_eq!(x.len(), sizes.len(), "length of x");
    // SAFETY: the length is checked above.
    let moments =
        for_channels(sizes, |channel| unsafe { simd::dispatch(path, Moments { sizes, x, channel }) });
    let (mean, variance) = moments.into_iter().unzip();
    Statistics { mean, variance }
}

struct Moments<'a> {
    sizes: Sizes,
    x: &'a [f32],
    channel: usize,
}

impl Kernel for Moments<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let Self { sizes, x, channel } = self;
        let count = (sizes.images * sizes.plane) as f64;
        // SAFETY: the planes lie within `x`; the processor supports `S`.
        unsafe {
            let mut total = 0.0;
            for start in sizes.starts(channel) {
                let plane = x[start..start + sizes.plane].as_ptr();
                let [sum] = sums::<S, 1>(sizes.plane, |at, rest, _| [load::<S>(plane.add(at), rest)]);
                total += sum;
            }
            let mean = total / count;
            let shift = S::splat(-(mean as f32));
            let mut total = 0.0;
            for start in sizes.starts(channel) {
                let plane = x[start..start + sizes.plane].as_ptr();
                let [sum] = sums::<S, 1>(sizes.plane, |at, rest, ones| {
                    let centred = S::mul(S::add(load::<S>(plane.add(at), rest), shift), ones);
                    [S::mul(centred, centred)]
                });
                total += sum;
            }
            (mean as f32, (total / count) as f32)
        }
    }
}

/// Loads a vector, or its first `rest` lanes where that is not 0.
///
/// # Safety
/// The processor supports `S`, and the lanes are readable.
#[inline(always)]
unsafe fn load<S: Simd>(from: *const f32, rest: usize) -> S::Vector {
    // SAFETY: as the caller promises.
    unsafe { if rest == 0 { S::load(from) } else { S::load_partial(from, rest) } }
}

/// # Safety
/// As [`load`], for writing.
#[inline(always)]
unsafe fn store<S: Simd>(to: *mut f32, value: S::Vector, rest: usize) {
    // SAFETY: as the caller promises.
    unsafe { if rest == 0 { S::store(to, value) } else { S::store_partial(to, value, rest) } }
}

/// Sums of what `terms(at, rest, ones)` gives for each vector of `len` values: `rest` is 0 or the
/// length of the last, and `ones` is 1 in the lanes that count.
///
/// # Safety
/// The processor supports `S`.
#[inline(always)]
unsafe fn sums<S: Simd, const N: usize>(
    len: usize,
    terms: impl Fn(usize, usize, S::Vector) -> [S::Vector; N],
) -> [f64; N] {
    const ONES: [f32; 16] = [1.0; 16];
    let whole = len - len % S::LANES;
    // SAFETY: the lanes of the vectors are those of the arrays.
    unsafe {
        // Four chains, since an addition waits for the one before.
        let mut parts = [[S::splat(0.0); N]; 4];
        let ones = S::splat(1.0);
        let mut at = 0;
        while at < whole {
            for part in &mut parts {
                if at < whole {
                    for (part, term) in part.iter_mut().zip(terms(at, 0, ones)) {
                        *part = S::add(*part, term);
                    }
                    at += S::LANES;
                }
            }
        }
        if whole < len {
            let ones = S::load_partial(ONES.as_ptr(), len - whole);
            for (part, term) in parts[0].iter_mut().zip(terms(whole, len - whole, ones)) {
                *part = S::add(*part, term);
            }
        }
        std::array::from_fn(|n| {
            let sum = S::add(S::add(parts[0][n], parts[1][n]), S::add(parts[2][n], parts[3][n]));
            let mut lanes = [0.0_f32; 16];
            S::store(lanes.as_mut_ptr(), sum);
            lanes[..S::LANES].iter().map(|&lane| f64::from(lane)).sum()
        })
    }
}

impl Statistics {
    /// `1 / sqrt(variance + epsilon)` of a channel.
    fn inverse(&self, sizes: &Sizes, channel: usize) -> f64 {
        1.0 / (f64::from(self.variance[channel]) + sizes.epsilon).sqrt()
    }
}

/// The normalised, shifted, activated batch: `activation((x - mean) / sqrt(variance + epsilon) * gamma + beta +
/// residual)` (Ioffe and Szegedy, 2015, algorithm 1).
///
/// # Panics
/// Slices of other lengths than `sizes`, or a processor without the path's instructions.
pub fn normalize(
    path: Path,
    sizes: Sizes,
    x: &[f32],
    statistics: &Statistics,
    gamma: &[f32],
    beta: &[f32],
    residual: Option<&[f32]>,
) -> Vec<f32> {
    assert_eq!(x.len(), sizes.len(), "length of x");
    assert!(residual.is_none_or(|residual| residual.len() == sizes.len()), "length of residual");
    let mut output = Output::new(x.len());
    let to = output.part();
    for_channels(sizes, |channel| {
        let scale = (f64::from(gamma[channel]) * statistics.inverse(&sizes, channel)) as f32;
        let mean = statistics.mean[channel];
        let kernel = Normalize { sizes, x, residual, channel, mean, scale, shift: beta[channel], to };
        // SAFETY: the lengths are checked above and every task writes its own channel.
        unsafe { simd::dispatch(path, kernel) }
    });
    // SAFETY: the tasks write all channels.
    unsafe { output.finish() }
}

struct Normalize<'a> {
    sizes: Sizes,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    channel: usize,
    mean: f32,
    scale: f32,
    shift: f32,
    to: Part<f32>,
}

impl Kernel for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { sizes, x, residual, channel, to, .. } = self;
        // SAFETY: the planes lie within the slices; the processor supports `S`.
        unsafe {
            let (mean, scale, shift) = (S::splat(-self.mean), S::splat(self.scale), S::splat(self.shift));
            for start in sizes.starts(channel) {
                let from = x[start..start + sizes.plane].as_ptr();
                let added = residual.map(|residual| residual[start..start + sizes.plane].as_ptr());
                let to = to.at(start);
                for at in (0..sizes.plane).step_by(S::LANES) {
                    let rest = if at + S::LANES > sizes.plane { sizes.plane - at } else { 0 };
                    let mut y = S::mul_add(S::add(load::<S>(from.add(at), rest), mean), scale, shift);
                    if let Some(added) = added {
                        y = S::add(y, load::<S>(added.add(at), rest));
                    }
                    if sizes.relu {
                        y = S::select(S::alive(y), y, S::splat(0.0));
                    }
                    store::<S>(to.add(at), y, rest);
                }
            }
        }
    }
}

/// The gradients of a normalisation with the statistics of the batch.
pub struct Gradients {
    /// `[N, C, H, W]`.
    pub x: Vec<f32>,
    /// `[C]`.
    pub gamma: Vec<f32>,
    /// `[C]`.
    pub beta: Vec<f32>,
    /// `[N, C, H, W]`, if asked for.
    pub residual: Option<Vec<f32>>,
}

/// Gives the gradients for that of the output. `output` is the result of the forward pass, where a
/// rectifier ended it.
///
/// # Panics
/// Slices of other lengths than `sizes`, or a processor without the path's instructions.
#[expect(clippy::too_many_arguments, reason = "each is one of the operator's tensors")]
pub fn backward(
    path: Path,
    sizes: Sizes,
    x: &[f32],
    statistics: &Statistics,
    gamma: &[f32],
    output: Option<&[f32]>,
    gradient: &[f32],
    wants_residual: bool,
) -> Gradients {
    let fits = x.len() == sizes.len()
        && gradient.len() == sizes.len()
        && output.is_none_or(|output| output.len() == sizes.len());
    assert!(fits, "lengths of x, output and gradient");
    let mut x_gradient = Output::new(x.len());
    let mut residual = Output::new(if wants_residual { x.len() } else { 0 });
    let (to, to_residual) = (x_gradient.part(), residual.part());
    let of_parameters = for_channels(sizes, |channel| {
        let kernel = Backward {
            sizes,
            x,
            output,
            gradient,
            channel,
            mean: statistics.mean[channel],
            inverse: statistics.inverse(&sizes, channel),
            gamma: gamma[channel],
            to,
            to_residual: wants_residual.then_some(to_residual),
        };
        // SAFETY: the lengths are checked above and every task writes its own channel.
        unsafe { simd::dispatch(path, kernel) }
    });
    let (gamma, beta) = of_parameters.into_iter().unzip();
    // SAFETY: the tasks write all channels.
    unsafe {
        let residual = wants_residual.then(|| residual.finish());
        Gradients { x: x_gradient.finish(), gamma, beta, residual }
    }
}

struct Backward<'a> {
    sizes: Sizes,
    x: &'a [f32],
    output: Option<&'a [f32]>,
    gradient: &'a [f32],
    channel: usize,
    mean: f32,
    /// `1 / sqrt(variance + epsilon)`.
    inverse: f64,
    gamma: f32,
    to: Part<f32>,
    to_residual: Option<Part<f32>>,
}

impl Kernel for Backward<'_> {
    /// The gradients of gamma and beta.
    type Output = (f32, f32);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (f32, f32) {
        let Self { sizes, x, output, gradient, channel, .. } = self;
        let plane = sizes.plane;
        let count = (sizes.images * plane) as f64;
        // SAFETY: the planes lie within the slices; the processor supports `S`.
        unsafe {
            let shift = S::splat(-self.mean);
            let zero = S::splat(0.0);
            let live = |start: usize, at: usize, rest: usize| {
                let value = load::<S>(gradient.as_ptr().add(start + at), rest);
                match output {
                    Some(output) => {
                        let output = load::<S>(output.as_ptr().add(start + at), rest);
                        S::select(S::alive(output), value, zero)
                    }
                    None => value,
                }
            };
            let centred = |start: usize, at: usize, rest: usize| {
                S::add(load::<S>(x.as_ptr().add(start + at), rest), shift)
            };
            let (mut total, mut projected) = (0.0, 0.0);
            for start in sizes.starts(channel) {
                let [sum, product] = sums::<S, 2>(plane, |at, rest, _| {
                    let value = live(start, at, rest);
                    [value, S::mul(value, centred(start, at, rest))]
                });
                total += sum;
                projected += product;
            }
            let inverse = self.inverse;
            let for_gamma = projected * inverse;
            let factor = S::splat((f64::from(self.gamma) * inverse) as f32);
            let mean_gradient = S::splat(-(total / count) as f32);
            let slope = S::splat((-for_gamma * inverse / count) as f32);
            for start in sizes.starts(channel) {
                for at in (0..plane).step_by(S::LANES) {
                    let rest = if at + S::LANES > plane { plane - at } else { 0 };
                    let value = live(start, at, rest);
                    if let Some(to) = self.to_residual {
                        store::<S>(to.at(start + at), value, rest);
                    }
                    let value = S::mul_add(centred(start, at, rest), slope, S::add(value, mean_gradient));
                    store::<S>(self.to.at(start + at), S::mul(value, factor), rest);
                }
            }
            (for_gamma as f32, total as f32)
        }
    }
}
