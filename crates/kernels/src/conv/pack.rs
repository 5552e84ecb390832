//! Layouts that the kernels read: packed weights, channels-last images.

use super::geometry::Geometry;
use crate::{
    Path,
    buffer::Scratch,
    simd::{self, Kernel, Simd, transpose::transpose},
};

/// Calls `visit(feature, channel, kernel_row, kernel_column, value)` for the weight of one group.
fn for_each_weight(
    geometry: &Geometry,
    weight: &[f32],
    group: usize,
    mut visit: impl FnMut(usize, usize, usize, usize, f32),
) {
    let [height, width] = geometry.kernel;
    let start = group * geometry.weight_len();
    let mut values = weight[start..start + geometry.weight_len()].iter();
    for feature in 0..geometry.features {
        for channel in 0..geometry.channels {
            for row in 0..height {
                for column in 0..width {
                    if let Some(&value) = values.next() {
                        visit(feature, channel, row, column, value);
                    }
                }
            }
        }
    }
}

/// `[channel][kernel row][kernel column][feature]`, features padded with zeros to whole vectors. Done
/// with whole blocks, since for a single image it would else take as long as the convolution.
pub(crate) fn by_features(path: Path, geometry: &Geometry, weight: &[f32], group: usize) -> Scratch {
    let weight = &weight[group * geometry.weight_len()..][..geometry.weight_len()];
    // SAFETY: the kernel holds slices only.
    unsafe { simd::dispatch(path, ByFeatures { geometry, weight }) }
}

struct ByFeatures<'a> {
    geometry: &'a Geometry,
    weight: &'a [f32],
}

impl Kernel for ByFeatures<'_> {
    type Output = Scratch;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Scratch {
        let features = self.geometry.features_padded(S::LANES);
        let taps = self.geometry.taps();
        let len = taps * features;
        let is_whole = features == self.geometry.features;
        let mut turned = if is_whole { Scratch::lent(len) } else { Scratch::new(len) };
        // SAFETY: the weight has a row of taps per feature, the scratch a row of features per tap.
        unsafe {
            let to = turned.pointer_mut();
            transpose::<S>(self.weight.as_ptr(), taps, to, features, self.geometry.features, taps);
        }
        turned
    }
}

/// `[kernel row][kernel column][channel][feature]` from [`by_features`]: what the forward pass reads.
pub(crate) fn taps_by_features(geometry: &Geometry, lanes: usize, turned: Scratch) -> Scratch {
    if geometry.channels == 1 {
        return turned;
    }
    let features = geometry.features_padded(lanes);
    let taps = geometry.taps();
    let area = taps / geometry.channels;
    let mut packed = Scratch::new(taps * features);
    let rows = packed.values_mut().chunks_exact_mut(features);
    for (tap, to) in rows.take(taps).enumerate() {
        let from = (tap % geometry.channels * area + tap / geometry.channels) * features;
        to.copy_from_slice(&turned.values()[from..from + features]);
    }
    packed
}

/// `[kernel row][kernel column][feature][channel]`, the kernel turned by 180 degrees, features and
/// channels padded with zeros to whole vectors: the convolution that gives the gradient of the image.
pub(crate) fn turned(geometry: &Geometry, lanes: usize, weight: &[f32], group: usize) -> Scratch {
    let features = geometry.features_padded(lanes);
    let channels = geometry.channels.next_multiple_of(lanes);
    let [height, width] = geometry.kernel;
    let mut packed = Scratch::new(height * width * features * channels);
    let values = packed.values_mut();
    for_each_weight(geometry, weight, group, |feature, channel, row, column, value| {
        let tap = (height - 1 - row) * width + (width - 1 - column);
        values[(tap * features + feature) * channels + channel] = value;
    });
    packed
}

/// `[feature][kernel row][run]`, runs padded with zeros to whole vectors: what the sparse backward
/// pass reads.
pub(crate) fn features_by_taps(geometry: &Geometry, lanes: usize, weight: &[f32], group: usize) -> Scratch {
    let run = geometry.run().next_multiple_of(lanes);
    let mut packed = Scratch::new(geometry.features * geometry.kernel[0] * run);
    let values = packed.values_mut();
    for_each_weight(geometry, weight, group, |feature, channel, row, column, value| {
        let tap = column * geometry.channels + channel;
        values[(feature * geometry.kernel[0] + row) * run + tap] = value;
    });
    packed
}

/// The bias of one group, padded to whole vectors.
pub(crate) fn bias(geometry: &Geometry, lanes: usize, bias: &[f32], group: usize) -> Scratch {
    let mut packed = Scratch::new(geometry.features_padded(lanes));
    let start = group * geometry.features;
    packed.values_mut()[..geometry.features].copy_from_slice(&bias[start..start + geometry.features]);
    packed
}

/// One image of one group, channels last, within its border of zeros.
pub(crate) struct Image {
    scratch: Scratch,
    /// Whether the image as it lies in memory is already in this layout.
    direct: bool,
}

impl Image {
    /// `is_aligned` where whole vectors are read, which should not straddle two cache lines.
    pub(crate) fn new(geometry: &Geometry, is_aligned: bool) -> Self {
        let last = geometry.images_last && !is_aligned;
        let direct = (geometry.channels == 1 || last) && geometry.padding == [0, 0];
        let [rows, _] = geometry.padded();
        Self { scratch: Scratch::new(if direct { 0 } else { rows * geometry.row() }), direct }
    }

    /// Rearranges the image `[channel][row][column]` at `from`, or `[row][column][channel]` where the
    /// geometry says so. The pointer returned is valid until
    /// the next call; past the end it is readable for one vector unless it is `from` itself.
    ///
    /// # Safety
    /// The processor supports `S`; `from` holds one image of `geometry`, the one passed to `new`.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(&mut self, geometry: &Geometry, from: *const f32) -> *const f32 {
        if self.direct {
            return from;
        }
        let [height, width] = geometry.size;
        let channels = geometry.channels;
        // SAFETY: the scratch holds the padded image; `from` as the caller promises.
        unsafe {
            let to = self.scratch.pointer_mut();
            if geometry.padding == [0, 0] && !geometry.images_last {
                transpose::<S>(from, height * width, to, channels, channels, height * width);
                return to;
            }
            for row in 0..height {
                let start = (row + geometry.padding[0]) * geometry.row() + geometry.padding[1] * channels;
                if channels == 1 || geometry.images_last {
                    let source = from.add(row * width * channels);
                    std::ptr::copy_nonoverlapping(source, to.add(start), width * channels);
                } else {
                    let source = from.add(row * width);
                    transpose::<S>(source, height * width, to.add(start), channels, channels, width);
                }
            }
            to
        }
    }
}
