//! Sums over parts of a batch, of which the gradients of a block are made.

use rayon::prelude::*;

use super::geometry::{Geometry, Reduction};
use crate::buffer::Scratch;

/// Which gradients somebody asks for; that of the bias costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of the images.
    pub images: bool,
    /// Of the weight.
    pub weight: bool,
}

/// The gradients of one block.
pub struct Gradients {
    /// `[N, C, H, W]`, if asked for.
    pub images: Option<Vec<f32>>,
    /// `[O, C / groups, KH, KW]`; no meaning if not asked for.
    pub weight: Vec<f32>,
    /// `[O]`.
    pub bias: Vec<f32>,
}

/// How the sums are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On planes.
    Planar,
    /// Channels last, over all positions.
    Dense,
    /// Channels last, over the positions that won the maximum.
    Sparse,
}

impl Way {
    pub(crate) fn new(geometry: &Geometry, lanes: usize, wanted: Wanted) -> Self {
        // Sums over live positions are worth it where pooling leaves at most a quarter of them and a
        // row of the kernel fills half a vector.
        let few = geometry.reduction == Reduction::Max
            && 4 * geometry.output_plane() <= geometry.inner[0] * geometry.inner[1]
            && 2 * geometry.run() >= lanes;
        if geometry.is_planar(lanes) {
            Self::Planar
        } else if few && wanted.weight {
            Self::Sparse
        } else {
            Self::Dense
        }
    }
}

/// How the sums of weight gradients lie in memory: distances between two neighbours.
pub(crate) struct Layout {
    pub(crate) way: Way,
    channel: usize,
    row: usize,
    column: usize,
    feature: usize,
    /// Values of one group.
    pub(crate) group_len: usize,
    pub(crate) features: usize,
}

impl Layout {
    pub(crate) fn new(geometry: &Geometry, lanes: usize, way: Way) -> Self {
        let features = geometry.features_padded(lanes);
        let [height, width] = geometry.kernel;
        let (channel, row, column, feature, group_len) = match way {
            Way::Planar => {
                let len = geometry.taps() * features;
                (height * width * features, width * features, features, 1, len)
            }
            Way::Dense => {
                let row = geometry.run() * features;
                (features, row, geometry.channels * features, 1, height * row)
            }
            Way::Sparse => {
                let run = geometry.run().next_multiple_of(lanes);
                (1, run, geometry.channels, height * run, geometry.features * height * run)
            }
        };
        Self { way, channel, row, column, feature, group_len, features }
    }
}

/// The sums over some images.
pub(crate) struct Partial {
    /// One per group.
    pub(crate) weight: Vec<Scratch>,
    /// `[group][feature]`, features padded to whole vectors.
    pub(crate) bias: Vec<f32>,
}

/// Adds the parts in their order and brings the sums to Burn's layout.
pub(crate) fn sum(geometry: &Geometry, layout: &Layout, partial: Vec<Partial>) -> Gradients {
    let mut partial = partial.into_iter();
    let Some(mut total) = partial.next() else {
        unreachable!("a batch has at least one part");
    };
    let rest: Vec<Partial> = partial.collect();
    for part in &rest {
        for (to, from) in total.bias.iter_mut().zip(&part.bias) {
            *to += from;
        }
    }
    let [height, width] = geometry.kernel;
    let mut weight = vec![0.0; geometry.groups * geometry.weight_len()];
    let mut bias = Vec::with_capacity(geometry.groups * geometry.features);
    for ((group, sums), weight) in
        total.weight.iter_mut().enumerate().zip(weight.chunks_exact_mut(geometry.weight_len()))
    {
        sums.values_mut().par_chunks_mut(4096).enumerate().for_each(|(chunk, to)| {
            let start = chunk * 4096;
            for part in &rest {
                for (to, from) in to.iter_mut().zip(&part.weight[group].values()[start..]) {
                    *to += from;
                }
            }
        });
        let sums = sums.values();
        for (kernel, to) in weight.chunks_exact_mut(height * width).enumerate() {
            let (feature, channel) = (kernel / geometry.channels, kernel % geometry.channels);
            let sums = &sums[feature * layout.feature + channel * layout.channel..];
            for (row, to) in to.chunks_exact_mut(width).enumerate() {
                for (column, to) in to.iter_mut().enumerate() {
                    *to = sums[row * layout.row + column * layout.column];
                }
            }
        }
        bias.extend_from_slice(&total.bias[group * layout.features..][..geometry.features]);
    }
    Gradients { images: None, weight, bias }
}
