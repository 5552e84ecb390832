//! Matrix products of the dense layer, on row-major slices.

use rayon::prelude::*;

use crate::{
    Path,
    buffer::{Output, Part, Scratch},
    simd::{
        self, Kernel, Simd,
        taps::{OuterSum, outer_sum},
        tile::{Product, product},
        transpose::transpose,
    },
};

/// Samples that one task of the forward pass takes.
const ROWS_PER_TASK: usize = 16;

/// Inputs that one task of the backward pass takes: whole vectors on every path.
const INPUTS_PER_TASK: usize = 64;

/// Terms of the inner product between visits to the output; their weights stay in the first-level
/// cache.
const TERMS: usize = 128;

/// The sizes of a dense layer.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// N.
    pub samples: usize,
    /// I.
    pub inputs: usize,
    /// O.
    pub outputs: usize,
    /// Whether a rectifier follows.
    pub relu: bool,
}

/// `x [samples, inputs]`, `weight [inputs, outputs]`, `bias [outputs]` give `[samples, outputs]`.
///
/// # Panics
/// Slices of other lengths than `sizes`, a size of 0, or a processor without the path's instructions.
pub fn forward(path: Path, sizes: Sizes, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let Sizes { samples, inputs, outputs, .. } = sizes;
    assert!(samples * inputs * outputs > 0, "a dense layer of no size");
    assert_eq!(x.len(), samples * inputs, "length of x");
    assert_eq!(weight.len(), inputs * outputs, "length of weight");
    let stride = outputs.next_multiple_of(simd::lanes(path));
    let padded = (stride != outputs).then(|| pad_rows(weight, outputs, stride));
    let mut bias_scratch = Scratch::new(stride);
    bias_scratch.values_mut()[..outputs].copy_from_slice(bias);
    let mut out = Output::new(samples * outputs);
    let out_part = out.part();
    let task = |task: usize| {
        let first = task * ROWS_PER_TASK;
        let kernel = Forward {
            sizes,
            x,
            weight: padded.as_ref().map_or(weight.as_ptr(), Scratch::pointer),
            stride,
            bias: &bias_scratch,
            rows: first..(first + ROWS_PER_TASK).min(samples),
            out: out_part,
        };
        // SAFETY: the lengths are checked above and every task writes its own rows.
        unsafe { simd::dispatch(path, kernel) };
    };
    let tasks = samples.div_ceil(ROWS_PER_TASK);
    if tasks == 1 {
        task(0);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
    // SAFETY: the tasks write all rows.
    unsafe { out.finish() }
}

/// Rows of `columns` values with zeros up to `stride`.
fn pad_rows(values: &[f32], columns: usize, stride: usize) -> Scratch {
    let mut padded = Scratch::new(values.len() / columns * stride);
    for (from, to) in values.chunks_exact(columns).zip(padded.values_mut().chunks_exact_mut(stride)) {
        to[..columns].copy_from_slice(from);
    }
    padded
}

struct Forward<'a> {
    sizes: Sizes,
    x: &'a [f32],
    weight: *const f32,
    /// Distance between rows of the weight: the outputs, in whole vectors.
    stride: usize,
    bias: &'a Scratch,
    rows: std::ops::Range<usize>,
    out: Part<f32>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sizes { inputs, outputs, relu, .. } = self.sizes;
        let rows = self.rows.len();
        let offsets: Vec<u32> = (0..rows).map(|row| (row * inputs) as u32).collect();
        let mut sums = Scratch::lent(rows * self.stride);
        let to = sums.pointer_mut();
        // SAFETY: `forward` has checked the lengths; the sums hold whole vectors.
        unsafe {
            for first in (0..inputs).step_by(TERMS) {
                let (init, init_stride) =
                    if first == 0 { (self.bias.pointer(), 0) } else { (to.cast_const(), self.stride) };
                let all = Product {
                    x: self.x.as_ptr().add(self.rows.start * inputs + first),
                    offsets: offsets.as_ptr(),
                    weight: self.weight.add(first * self.stride),
                    weight_stride: self.stride,
                    rows: 1,
                    row_stride: 0,
                    run: TERMS.min(inputs - first),
                    init,
                    init_stride,
                    out: to,
                    out_stride: self.stride,
                };
                product::<S>(&all, rows, self.stride / S::LANES);
            }
            if relu {
                for at in (0..rows * self.stride).step_by(S::LANES) {
                    let value = S::load(to.add(at));
                    S::store(to.add(at), S::select(S::alive(value), value, S::splat(0.0)));
                }
            }
            for row in 0..rows {
                let out = self.out.at((self.rows.start + row) * outputs);
                std::ptr::copy_nonoverlapping(to.add(row * self.stride), out, outputs);
            }
        }
    }
}

/// The gradients of a dense layer.
pub struct Gradients {
    /// `[samples, inputs]`, if asked for.
    pub x: Option<Vec<f32>>,
    /// `[inputs, outputs]`.
    pub weight: Vec<f32>,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

/// Gives the gradients for `gradient [samples, outputs]`. `output` is the result of the forward pass,
/// where a rectifier ended it.
///
/// # Panics
/// As [`forward`].
pub fn backward(
    path: Path,
    sizes: Sizes,
    x: &[f32],
    weight: &[f32],
    output: Option<&[f32]>,
    gradient: &[f32],
    needs_x: bool,
) -> Gradients {
    let Sizes { samples, inputs, outputs, .. } = sizes;
    assert!(samples * inputs * outputs > 0, "a dense layer of no size");
    assert_eq!(x.len(), samples * inputs, "length of x");
    assert_eq!(weight.len(), inputs * outputs, "length of weight");
    assert_eq!(gradient.len(), samples * outputs, "length of gradient");
    let stride = outputs.next_multiple_of(simd::lanes(path));
    let mut inner = pad_rows(gradient, outputs, stride);
    let mut bias = vec![0.0; outputs];
    if let Some(output) = output {
        let rows = inner.values_mut().chunks_exact_mut(stride);
        for (to, output) in rows.zip(output.chunks_exact(outputs)) {
            for (to, &value) in to.iter_mut().zip(output) {
                // A NaN lets its gradient through, as in Burn.
                if value <= 0.0 {
                    *to = 0.0;
                }
            }
        }
    }
    for row in inner.values().chunks_exact(stride).take(samples) {
        for (to, &value) in bias.iter_mut().zip(row) {
            *to += value;
        }
    }
    let mut x_gradient = Output::new(if needs_x { x.len() } else { 0 });
    let mut weight_gradient = Output::new(weight.len());
    let (x_part, weight_part) = (x_gradient.part(), weight_gradient.part());
    let task = |task: usize| {
        let first = task * INPUTS_PER_TASK;
        let kernel = Backward {
            sizes,
            x,
            weight,
            gradient: &inner,
            stride,
            inputs: first..(first + INPUTS_PER_TASK).min(inputs),
            x_gradient: needs_x.then_some(x_part),
            weight_gradient: weight_part,
        };
        // SAFETY: the lengths are checked above and every task writes its own inputs.
        unsafe { simd::dispatch(path, kernel) };
    };
    (0..inputs.div_ceil(INPUTS_PER_TASK)).into_par_iter().for_each(task);
    // SAFETY: the tasks cover all inputs, and each writes all values of its own.
    unsafe { Gradients { x: needs_x.then(|| x_gradient.finish()), weight: weight_gradient.finish(), bias } }
}

struct Backward<'a> {
    sizes: Sizes,
    x: &'a [f32],
    weight: &'a [f32],
    /// `[samples][stride]`.
    gradient: &'a Scratch,
    stride: usize,
    inputs: std::ops::Range<usize>,
    x_gradient: Option<Part<f32>>,
    weight_gradient: Part<f32>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Sizes { samples, inputs, outputs, .. } = self.sizes;
        let stride = self.stride;
        let (first, count) = (self.inputs.start, self.inputs.len());
        let width = count.next_multiple_of(S::LANES);
        // SAFETY: `backward` has checked the lengths; scratch is sized for whole vectors.
        unsafe {
            // Whatever lies beyond `count` in a row reaches no result.
            let mut columns = Scratch::lent(samples * width);
            let to = columns.pointer_mut();
            for sample in 0..samples {
                let from = self.x.as_ptr().add(sample * inputs + first);
                std::ptr::copy_nonoverlapping(from, to.add(sample * width), count);
            }
            let weight_gradient = self.weight_gradient.at(first * outputs);
            // Sums of whole vectors need no place of their own.
            let mut padded = (stride != outputs).then(|| Scratch::lent(count * stride));
            let sum = padded.as_mut().map_or(weight_gradient, Scratch::pointer_mut);
            std::ptr::write_bytes(sum, 0, count * stride);
            for sample in (0..samples).step_by(TERMS / 2) {
                let all = OuterSum {
                    x: columns.pointer().add(sample * width),
                    x_row: 0,
                    x_pixel: width,
                    bases: 1,
                    x_base: 0,
                    run: count,
                    gradient: self.gradient.pointer().add(sample * stride),
                    gradient_row: 0,
                    gradient_pixel: stride,
                    rows: 1,
                    columns: (TERMS / 2).min(samples - sample),
                    sum,
                    sum_base: 0,
                    sum_tap: stride,
                };
                outer_sum::<S>(&all, stride / S::LANES);
            }
            if let Some(padded) = padded {
                for input in 0..count {
                    let from = padded.pointer().add(input * stride);
                    std::ptr::copy_nonoverlapping(from, weight_gradient.add(input * outputs), outputs);
                }
            }
            let Some(x_gradient) = self.x_gradient else {
                return;
            };
            let mut turned = Scratch::lent(outputs * width);
            let from = self.weight.as_ptr().add(first * outputs);
            transpose::<S>(from, outputs, turned.pointer_mut(), width, count, outputs);
            let offsets: Vec<u32> = (0..samples).map(|sample| (sample * stride) as u32).collect();
            let no_bias = Scratch::new(width);
            let all = Product {
                x: self.gradient.pointer(),
                offsets: offsets.as_ptr(),
                weight: turned.pointer(),
                weight_stride: width,
                rows: 1,
                row_stride: 0,
                run: outputs,
                init: no_bias.pointer(),
                init_stride: 0,
                out: columns.pointer_mut(),
                out_stride: width,
            };
            product::<S>(&all, samples, width / S::LANES);
            for sample in 0..samples {
                let from = columns.pointer().add(sample * width);
                std::ptr::copy_nonoverlapping(from, x_gradient.at(sample * inputs + first), count);
            }
        }
    }
}
