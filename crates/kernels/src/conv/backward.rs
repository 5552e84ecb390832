//! The backward pass: gradients of image, weight and bias.

use rayon::prelude::*;

use super::{
    forward::Saved,
    geometry::{Geometry, Reduction},
    pack,
    partial::{Gradients, Layout, Partial, Wanted, Way, sum},
    planar,
    planes::Plan,
    pool::{self, Planes},
    sparse::{self, Routes, Sums},
    winograd,
};
use crate::{
    buffer::{Output, Part, Scratch},
    simd::{
        self, Kernel, Simd,
        taps::{OuterSum, outer_sum, rows_per_strip},
        tile::{Product, product, split_evenly},
        transpose::transpose,
    },
};

/// Parts that a batch is cut into. Each sums its own gradients, and the sums are added in order, so
/// the result does not depend on the number of threads.
const PARTS: usize = 16;

/// Images of a part, of which a small batch has fewer parts: the sums of each are zeroed, and added up in the end.
const FEWEST_IMAGES: usize = 4;

/// The most memory that the sums of all parts may take together.
const MOST_PARTIAL_VALUES: usize = 16 << 20;

/// What a backward pass starts from besides what the forward pass saved: its slices, and the gradient.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// As they were given to the forward pass.
    pub images: &'a [f32],
    /// The same.
    pub weight: &'a [f32],
    /// The output of the forward pass, where [`Geometry::keeps_output`].
    pub output: Option<&'a [f32]>,
    /// Of the output, `[N, O, H', W']`.
    pub gradient: &'a [f32],
    /// Whether it lies channels last in memory, which [`Geometry::writes_last`] must allow.
    pub gradient_last: bool,
}

/// Gives the gradients for the gradient of the output, on the path of the forward pass.
///
/// # Panics
/// Slices of other lengths than those of the forward pass, or one that saved nothing.
pub fn backward(saved: &Saved, inputs: Inputs, wanted: Wanted) -> Gradients {
    let Saved { path, geometry, codes, .. } = saved;
    let path = *path;
    let Inputs { images, weight, output, gradient, gradient_last } = inputs;
    let inner = output.unwrap_or(&saved.inner);
    let lanes = simd::lanes(path);
    assert!(!gradient_last || geometry.writes_last(lanes), "gradient channels last");
    let groups = geometry.groups;
    let inner_len = if geometry.needs_inner(lanes) { geometry.inner[0] * geometry.inner[1] } else { 0 };
    assert_eq!(images.len(), geometry.images * groups * geometry.image_len(), "length of images");
    assert_eq!(weight.len(), groups * geometry.weight_len(), "length of weight");
    assert_eq!(gradient.len(), geometry.images * groups * geometry.output_len(), "length of gradient");
    assert_eq!(codes.len(), geometry.images * groups * geometry.codes_len(lanes), "length of codes");
    assert!(
        inner.len() >= geometry.images * groups * geometry.features * inner_len,
        "length of inner values"
    );
    let layout = Layout::new(geometry, lanes, Way::new(geometry, lanes, wanted));
    let (plan, turned) = match layout.way {
        Way::Planar => (
            Some(Plan::new(geometry.plane_sizes(), lanes)),
            wanted.images.then(|| Plan::new(geometry.turned_sizes(), lanes)),
        ),
        _ => (None, None),
    };
    let weights: Vec<Scratch> = (0..groups)
        .map(|group| match (layout.way, &turned) {
            (Way::Planar, Some(turned)) => {
                let weight = &weight[group * geometry.weight_len()..][..geometry.weight_len()];
                planar::pack_turned(geometry, turned, weight)
            }
            (Way::Sparse, _) => pack::features_by_taps(geometry, lanes, weight, group),
            (Way::Dense, _) if wanted.images => pack::turned(geometry, lanes, weight, group),
            _ => Scratch::new(0),
        })
        .collect();
    let minimal = match layout.way {
        Way::Dense if wanted.images => geometry.turned_winograd(lanes),
        _ => None,
    };
    let minimal = minimal.and_then(|sizes| {
        let layout = winograd::WeightLayout { tap: sizes.channels * sizes.features, channel: sizes.features };
        winograd::Weights::new(path, sizes, layout, weights.iter())
    });
    let mut image_gradients = Output::new(if wanted.images { images.len() } else { 0 });
    let image_part = image_gradients.part();
    let parts = (MOST_PARTIAL_VALUES / (groups * layout.group_len)).clamp(1, PARTS);
    let parts = parts.min(geometry.images.div_ceil(FEWEST_IMAGES));
    let per_part = geometry.images.div_ceil(parts);
    let part = |part: usize| {
        let first = (part * per_part).min(geometry.images);
        let range = first..(first + per_part).min(geometry.images);
        // SAFETY: the lengths are checked above and every part writes its own images.
        unsafe {
            if let Some(plan) = &plan {
                let turned = turned.as_ref().map(|turned| (turned, &weights[..], image_part));
                let wants_weight = wanted.weight;
                let kernel =
                    planar::Backward { geometry, plan, turned, images, inner, gradient, range, wants_weight };
                return simd::dispatch(path, kernel);
            }
            let kernel = Backward {
                geometry,
                layout: &layout,
                images,
                weights: &weights,
                minimal: minimal.as_ref(),
                codes,
                gradient,
                gradient_last,
                range,
                image_gradients: wanted.images.then_some(image_part),
                wants_weight: wanted.weight,
            };
            simd::dispatch(path, kernel)
        }
    };
    let parts = geometry.images.div_ceil(per_part);
    let partial: Vec<Partial> =
        if parts == 1 { vec![part(0)] } else { (0..parts).into_par_iter().map(part).collect() };
    let mut gradients = sum(geometry, &layout, partial);
    if wanted.images {
        // SAFETY: the parts cover all images, and each writes all values of its images.
        gradients.images = Some(unsafe { image_gradients.finish() });
    }
    gradients
}

struct Backward<'a> {
    geometry: &'a Geometry,
    layout: &'a Layout,
    images: &'a [f32],
    weights: &'a [Scratch],
    /// Where minimal filtering gives the gradient of the images.
    minimal: Option<&'a winograd::Weights>,
    codes: &'a [u8],
    gradient: &'a [f32],
    gradient_last: bool,
    range: std::ops::Range<usize>,
    image_gradients: Option<Part<f32>>,
    wants_weight: bool,
}

impl Kernel for Backward<'_> {
    type Output = Partial;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Partial {
        let geometry = self.geometry;
        let mut partial = Partial {
            weight: (0..geometry.groups).map(|_| Scratch::new(self.layout.group_len)).collect(),
            bias: vec![0.0; geometry.groups * self.layout.features],
        };
        let mut image_scratch = pack::Image::new(geometry, self.layout.way == Way::Sparse);
        // SAFETY: `backward` has checked the lengths of all slices.
        unsafe {
            if self.layout.way == Way::Sparse {
                self.sparse::<S>(&mut image_scratch, &mut partial);
            } else {
                self.dense::<S>(&mut image_scratch, &mut partial);
            }
        }
        partial
    }
}

impl Backward<'_> {
    /// # Safety
    /// The processor supports `S`; all slices have the lengths of `geometry`.
    #[inline(always)]
    unsafe fn sparse<S: Simd>(&self, image_scratch: &mut pack::Image, partial: &mut Partial) {
        let geometry = self.geometry;
        let mut routes = Routes::new(geometry);
        let [padded_rows, _] = geometry.padded();
        let padded_len = padded_rows * geometry.row();
        let mut padded = Scratch::new(if self.image_gradients.is_some() { padded_len } else { 0 });
        let codes_len = geometry.codes_len(S::LANES);
        for image in self.range.clone() {
            for group in 0..geometry.groups {
                let index = image * geometry.groups + group;
                // SAFETY: the index is below the number of images and groups.
                unsafe {
                    let x = image_scratch
                        .load::<S>(geometry, self.images.as_ptr().add(index * geometry.image_len()));
                    if self.image_gradients.is_some() {
                        padded.values_mut().fill(0.0);
                    }
                    let sums = Sums {
                        x,
                        weight: self.weights[group].pointer(),
                        weight_gradient: partial.weight[group].pointer_mut(),
                        image_gradient: if self.image_gradients.is_some() {
                            padded.pointer_mut()
                        } else {
                            std::ptr::null_mut()
                        },
                    };
                    let start = index * geometry.output_len();
                    sparse::backward::<S>(
                        geometry,
                        &mut routes,
                        &self.gradient[start..start + geometry.output_len()],
                        self.gradient_last,
                        &self.codes[index * codes_len..(index + 1) * codes_len],
                        &sums,
                        &mut partial.bias[group * self.layout.features..],
                    );
                    if let Some(to) = self.image_gradients {
                        let to = to.at(index * geometry.image_len());
                        let skip =
                            geometry.padding[0] * geometry.row() + geometry.padding[1] * geometry.channels;
                        store_image::<S>(
                            geometry,
                            padded.pointer().add(skip),
                            geometry.row(),
                            geometry.channels,
                            to,
                        );
                    }
                }
            }
        }
    }

    /// # Safety
    /// The processor supports `S`; all slices have the lengths of `geometry`.
    #[inline(always)]
    unsafe fn dense<S: Simd>(&self, image_scratch: &mut pack::Image, partial: &mut Partial) {
        let geometry = self.geometry;
        let features = self.layout.features;
        let vectors = features / S::LANES;
        let [height, width] = geometry.size;
        let [kernel_height, kernel_width] = geometry.kernel;
        let [rows, columns] = geometry.inner;
        let needs_images = self.image_gradients.is_some();
        // For the image's gradient the inner gradient lies within zeros, and strides spread it out.
        let (pixels, stride, border) = if needs_images {
            let border = [kernel_height - 1 - geometry.padding[0], kernel_width - 1 - geometry.padding[1]];
            ([height + kernel_height - 1, width + kernel_width - 1], geometry.stride, border)
        } else {
            (geometry.inner, [1, 1], [0, 0])
        };
        let row = pixels[1] * features;
        let mut spread = Scratch::new(pixels[0] * row);
        let mut pooled = Scratch::lent(match geometry.reduction {
            Reduction::Copy => 0,
            _ if self.gradient_last => 0,
            _ => geometry.output_plane() * features,
        });
        let channels = geometry.channels.next_multiple_of(S::LANES);
        let mut image_gradient = Scratch::lent(if needs_images { geometry.plane() * channels } else { 0 });
        let no_bias = Scratch::new(channels);
        let mut minimal = self.minimal.map(winograd::Room::new);
        let image_offsets: Vec<u32> = (0..if needs_images { geometry.plane() } else { 0 })
            .map(|index| ((index / width) * row + (index % width) * features) as u32)
            .collect();
        let codes_len = geometry.codes_len(S::LANES);
        for image in self.range.clone() {
            for group in 0..geometry.groups {
                let index = image * geometry.groups + group;
                // SAFETY: the index is below the number of images and groups; scratch is sized above.
                unsafe {
                    let x = image_scratch
                        .load::<S>(geometry, self.images.as_ptr().add(index * geometry.image_len()));
                    let inner = Planes {
                        values: spread.pointer_mut().add(border[0] * row + border[1] * features),
                        row: stride[0] * row,
                        pixel: stride[1] * features,
                    };
                    let gradient = self.gradient.as_ptr().add(index * geometry.output_len());
                    let plane = geometry.output_plane();
                    if geometry.reduction == Reduction::Copy {
                        for y in 0..rows {
                            transpose::<S>(
                                gradient.add(y * columns),
                                plane,
                                inner.values.add(y * inner.row),
                                inner.pixel,
                                geometry.features,
                                columns,
                            );
                        }
                    } else {
                        let mut last = gradient;
                        if !self.gradient_last {
                            let to = pooled.pointer_mut();
                            transpose::<S>(gradient, plane, to, features, geometry.features, plane);
                            last = to;
                        }
                        let codes = self.codes.as_ptr().add(index * codes_len);
                        pool::backward::<S>(geometry, last, codes, inner);
                    }
                    let bias = partial.bias.as_mut_ptr().add(group * features);
                    for channel in (0..features).step_by(S::LANES) {
                        let mut sum = S::load(bias.add(channel));
                        for y in 0..rows {
                            for x in 0..columns {
                                let from = inner.values.add(y * inner.row + x * inner.pixel + channel);
                                sum = S::add(sum, S::load(from));
                            }
                        }
                        S::store(bias.add(channel), sum);
                    }
                    let strip = rows_per_strip::<S>(columns, vectors);
                    split_evenly(if self.wants_weight { rows } else { 0 }, strip, |first, rows| {
                        let all = OuterSum {
                            x: x.add(first * geometry.stride[0] * geometry.row()),
                            x_row: geometry.stride[0] * geometry.row(),
                            x_pixel: geometry.stride[1] * geometry.channels,
                            bases: kernel_height,
                            x_base: geometry.row(),
                            run: geometry.run(),
                            gradient: inner.values.add(first * inner.row),
                            gradient_row: inner.row,
                            gradient_pixel: inner.pixel,
                            rows,
                            columns,
                            sum: partial.weight[group].pointer_mut(),
                            sum_base: geometry.run() * features,
                            sum_tap: features,
                        };
                        outer_sum::<S>(&all, vectors);
                    });
                    if let Some(to) = self.image_gradients {
                        let out = image_gradient.pointer_mut();
                        let is_done = match &mut minimal {
                            Some(room) => {
                                let (x, bias) = (spread.pointer(), no_bias.pointer());
                                winograd::convolve::<S>(room, group, winograd::Image { x, row, bias, out })
                            }
                            None => false,
                        };
                        let all = Product {
                            x: spread.pointer(),
                            offsets: image_offsets.as_ptr(),
                            weight: self.weights[group].pointer(),
                            weight_stride: channels,
                            rows: kernel_height,
                            row_stride: row,
                            run: kernel_width * features,
                            init: no_bias.pointer(),
                            init_stride: 0,
                            out,
                            out_stride: channels,
                        };
                        if !is_done {
                            product::<S>(&all, geometry.plane(), channels / S::LANES);
                        }
                        let to = to.at(index * geometry.image_len());
                        store_image::<S>(geometry, image_gradient.pointer(), width * channels, channels, to);
                    }
                }
            }
        }
    }
}

/// Stores channels-last values as one image `[channel][row][column]`, or in their own order where the
/// images have it.
///
/// # Safety
/// The processor supports `S`; `from` holds the rows at their strides, `to` an image.
#[inline(always)]
unsafe fn store_image<S: Simd>(
    geometry: &Geometry,
    from: *const f32,
    row: usize,
    pixel: usize,
    to: *mut f32,
) {
    let [height, width] = geometry.size;
    let plane = geometry.plane();
    // SAFETY: as the caller promises.
    unsafe {
        if geometry.images_last {
            let values = width * geometry.channels;
            for y in 0..height {
                let (from, to) = (from.add(y * row), to.add(y * values));
                std::ptr::copy_nonoverlapping(from, to, values);
            }
        } else if row == width * pixel {
            transpose::<S>(from, pixel, to, plane, plane, geometry.channels);
        } else {
            for y in 0..height {
                transpose::<S>(from.add(y * row), pixel, to.add(y * width), plane, width, geometry.channels);
            }
        }
    }
}
