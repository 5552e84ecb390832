//! The forward pass: convolution into channels-last scratch, reduced while it is in cache.

use std::sync::OnceLock;

use rayon::prelude::*;

use super::{
    geometry::{Geometry, Reduction},
    pack, planar,
    planes::Plan,
    pool::{self, Planes},
    winograd,
};
use crate::{
    Path,
    buffer::{Output, Part, Scratch},
    pointwise::Activation,
    simd::{
        self, Kernel, Simd,
        tile::{Product, product},
        transpose::transpose,
    },
};

/// Images that one task of the thread pool takes.
const IMAGES_PER_TASK: usize = 4;

/// What the backward pass needs besides images and weight, and the output where nothing is pooled. Only a forward pass
/// makes one, since the codes lead the backward pass through memory.
pub struct Saved {
    pub(crate) path: Path,
    pub(crate) geometry: Geometry,
    /// A code per value, channels last.
    pub(crate) codes: Vec<u8>,
    /// Activated values before an average pooling on planes.
    pub(crate) inner: Vec<f32>,
}

impl Saved {
    /// The path that was taken.
    pub fn path(&self) -> Path {
        self.path
    }

    /// The sizes.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }
}

/// Gives the output `[N, O, H', W']` and, with `save`, what the backward pass needs. Images and output lie as the
/// geometry says.
///
/// # Panics
/// Slices of other lengths than `geometry`, an activation or a layout that it does not allow on this path, or a
/// processor without the path's instructions.
pub fn forward(
    path: Path,
    geometry: &Geometry,
    images: &[f32],
    weight: &[f32],
    bias: &[f32],
    save: bool,
) -> (Vec<f32>, Saved) {
    let lanes = simd::lanes(path);
    let groups = geometry.groups;
    assert_eq!(images.len(), geometry.images * groups * geometry.image_len(), "length of images");
    assert_eq!(weight.len(), groups * geometry.weight_len(), "length of weight");
    assert_eq!(bias.len(), groups * geometry.features, "length of bias");
    assert!(geometry.is_fused(lanes), "{:?} must follow by itself", geometry.activation);
    assert!(geometry.is_laid_out(lanes), "channels last on {path:?}");
    if geometry.is_planar(lanes) {
        return on_planes(path, geometry, images, weight, bias, save);
    }
    let weights = Weights::new(path, geometry, weight);
    let biases: Vec<Scratch> = (0..groups).map(|group| pack::bias(geometry, lanes, bias, group)).collect();
    let codes_len = if save { geometry.codes_len(lanes) } else { 0 };
    let mut output = Output::new(geometry.images * groups * geometry.output_len());
    let mut codes = Output::new(geometry.images * groups * codes_len);
    let (output_part, codes_part) = (output.part(), codes.part());
    let task = |task: usize| {
        let first = task * IMAGES_PER_TASK;
        let kernel = Forward {
            geometry,
            images,
            weights: &weights,
            biases: &biases,
            range: first..(first + IMAGES_PER_TASK).min(geometry.images),
            output: output_part,
            codes: codes_part,
            codes_len,
        };
        // SAFETY: the lengths are checked above and every task writes its own images.
        unsafe { simd::dispatch(path, kernel) };
    };
    run_tasks(geometry.images.div_ceil(IMAGES_PER_TASK), task);
    // SAFETY: the tasks cover all images, and each writes all values and codes of its images.
    unsafe {
        let saved = Saved { path, geometry: *geometry, codes: codes.finish(), inner: Vec::new() };
        (output.finish(), saved)
    }
}

/// A single task is not worth handing over.
fn run_tasks(tasks: usize, task: impl Fn(usize) + Sync + Send) {
    if tasks == 1 {
        task(0);
    } else {
        (0..tasks).into_par_iter().for_each(task);
    }
}

fn on_planes(
    path: Path,
    geometry: &Geometry,
    images: &[f32],
    weight: &[f32],
    bias: &[f32],
    save: bool,
) -> (Vec<f32>, Saved) {
    let plan = Plan::new(geometry.plane_sizes(), simd::lanes(path));
    let weights: Vec<Scratch> = weight
        .chunks_exact(geometry.weight_len())
        .map(|weight| planar::pack(geometry, &plan, weight))
        .collect();
    let channels = geometry.images * geometry.groups * geometry.features;
    let keeps_inner =
        save && geometry.activation != Activation::None && geometry.reduction == Reduction::Average;
    let inner_len = if keeps_inner { channels * geometry.inner[0] * geometry.inner[1] } else { 0 };
    let mut output = Output::new(channels * geometry.output_plane());
    let mut inner = Output::new(inner_len);
    let (output_part, inner_part) = (output.part(), inner.part());
    let task = |task: usize| {
        let first = task * IMAGES_PER_TASK;
        let kernel = planar::Forward {
            geometry,
            plan: &plan,
            images,
            weights: &weights,
            bias,
            range: first..(first + IMAGES_PER_TASK).min(geometry.images),
            output: output_part,
            inner: keeps_inner.then_some(inner_part),
        };
        // SAFETY: the lengths are checked by the caller and every task writes its own images.
        unsafe { simd::dispatch(path, kernel) };
    };
    run_tasks(geometry.images.div_ceil(IMAGES_PER_TASK), task);
    // SAFETY: the tasks cover all images, and each writes all values of its images.
    unsafe {
        let saved = Saved { path, geometry: *geometry, codes: Vec::new(), inner: inner.finish() };
        (output.finish(), saved)
    }
}

/// What the plain sum reads.
struct Plain {
    /// One per group.
    weights: Vec<Scratch>,
    offsets: Vec<u32>,
}

/// The weight in the forms that the forward pass reads, one per group.
struct Weights<'a> {
    path: Path,
    geometry: &'a Geometry,
    weight: &'a [f32],
    /// For minimal filtering, where it serves.
    minimal: Option<winograd::Weights>,
    /// For the plain sum, made when the first image asks for it.
    plain: OnceLock<Plain>,
}

impl<'a> Weights<'a> {
    fn new(path: Path, geometry: &'a Geometry, weight: &'a [f32]) -> Self {
        let minimal = geometry.winograd(simd::lanes(path)).and_then(|sizes| {
            let layout =
                winograd::WeightLayout { tap: sizes.features, channel: geometry.area() * sizes.features };
            let groups = (0..geometry.groups).map(|group| pack::by_features(path, geometry, weight, group));
            winograd::Weights::new(path, sizes, layout, groups)
        });
        Self { path, geometry, weight, minimal, plain: OnceLock::new() }
    }

    fn plain(&self) -> &Plain {
        self.plain.get_or_init(|| {
            let turned = |group| pack::by_features(self.path, self.geometry, self.weight, group);
            let lanes = simd::lanes(self.path);
            let packed = |group| pack::taps_by_features(self.geometry, lanes, turned(group));
            Plain {
                weights: (0..self.geometry.groups).map(packed).collect(),
                offsets: self.geometry.offsets(),
            }
        })
    }
}

struct Forward<'a> {
    geometry: &'a Geometry,
    images: &'a [f32],
    weights: &'a Weights<'a>,
    biases: &'a [Scratch],
    range: std::ops::Range<usize>,
    output: Part<f32>,
    codes: Part<u8>,
    codes_len: usize,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let geometry = self.geometry;
        let features = geometry.features_padded(S::LANES);
        let vectors = features / S::LANES;
        let [rows, columns] = geometry.inner;
        let mut image_scratch = pack::Image::new(geometry, false);
        let mut inner = Scratch::lent(rows * columns * features);
        let mut pooled = Scratch::lent(match geometry.reduction {
            Reduction::Copy => 0,
            _ if geometry.output_last => 0,
            _ => geometry.output_plane() * features,
        });
        let mut minimal = self.weights.minimal.as_ref().map(winograd::Room::new);
        let inner = Planes { values: inner.pointer_mut(), row: columns * features, pixel: features };
        for image in self.range {
            for group in 0..geometry.groups {
                let index = image * geometry.groups + group;
                // SAFETY: `forward` has checked the lengths of all slices, and scratch is sized above.
                unsafe {
                    let from = self.images.as_ptr().add(index * geometry.image_len());
                    let x = image_scratch.load::<S>(geometry, from);
                    let codes = if self.codes_len > 0 {
                        self.codes.at(index * self.codes_len)
                    } else {
                        std::ptr::null_mut()
                    };
                    let output = self.output.at(index * geometry.output_len());
                    let reduced = if geometry.output_last { output } else { pooled.pointer_mut() };
                    let is_done = match &mut minimal {
                        Some(room) => {
                            let (row, bias) = (geometry.row(), self.biases[group].pointer());
                            let image = winograd::Image { x, row, bias, out: inner.values };
                            winograd::convolve::<S>(room, group, image)
                        }
                        None => false,
                    };
                    let convolve = |first_row: usize, last_row: usize| {
                        if is_done {
                            return;
                        }
                        let plain = self.weights.plain();
                        let skip = first_row * columns;
                        let all = Product {
                            x,
                            offsets: plain.offsets.as_ptr().add(skip),
                            weight: plain.weights[group].pointer(),
                            weight_stride: features,
                            rows: geometry.kernel[0],
                            row_stride: geometry.row(),
                            run: geometry.run(),
                            init: self.biases[group].pointer(),
                            init_stride: 0,
                            out: inner.values.add(skip * features),
                            out_stride: features,
                        };
                        product::<S>(&all, (last_row - first_row) * columns, vectors);
                    };
                    let result = match geometry.reduction {
                        Reduction::Copy => {
                            convolve(0, rows);
                            inner.values
                        }
                        Reduction::Average => {
                            convolve(0, rows);
                            if geometry.is_rectified() {
                                pool::rectify::<S>(geometry, inner, codes);
                            }
                            pool::average_forward::<S>(geometry, inner, reduced);
                            reduced
                        }
                        Reduction::Max => {
                            let window = &geometry.window;
                            let strip = window.rows_per_strip(geometry, features);
                            let mut done = 0;
                            for start in (0..geometry.output[0]).step_by(strip) {
                                let end = (start + strip).min(geometry.output[0]);
                                let (_, needed, _) = window.range(0, end - 1, rows);
                                convolve(done, needed);
                                done = needed;
                                pool::max_forward::<S>(geometry, inner, start..end, reduced, codes);
                            }
                            reduced
                        }
                    };
                    if !geometry.output_last {
                        let plane = geometry.output_plane();
                        transpose::<S>(result, features, output, plane, plane, geometry.features);
                    }
                }
            }
        }
    }
}
