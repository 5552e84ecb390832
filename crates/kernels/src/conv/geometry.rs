//! The sizes of one fused block, checked once.

use super::{planes, winograd};
use crate::{
    pointwise::Activation,
    pool::{Pool, Window},
};

/// Code of a pooled value whose gradient is stopped by the rectifier.
pub(crate) const DEAD: u8 = 255;

/// What a block of a convolution computes besides the shapes of its tensors. All sizes are `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvBlock {
    /// Distance between the positions of the kernel.
    pub stride: [usize; 2],
    /// Rows and columns of zeros added on each side of the image.
    pub padding: [usize; 2],
    /// Groups that the channels are split into; 1 for a dense convolution.
    pub groups: usize,
    /// Applied before pooling.
    pub activation: Activation,
    /// Applied last.
    pub pool: Pool,
}

impl Default for ConvBlock {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], groups: 1, activation: Activation::None, pool: Pool::None }
    }
}

/// What happens between the convolution and the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// The output is the convolution.
    Copy,
    /// The largest value of the window, remembered by its code.
    Max,
    /// The mean of the window, padding included.
    Average,
}

/// All sizes of a block, and how its images lie in memory. "Inner" is the output of the convolution, as far as pooling looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub(crate) images: usize,
    pub(crate) groups: usize,
    /// Input channels of one group.
    pub(crate) channels: usize,
    /// Output channels of one group.
    pub(crate) features: usize,
    /// `[height, width]` of an image.
    pub(crate) size: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    /// Rows and columns of the convolution that pooling uses.
    pub(crate) inner: [usize; 2],
    pub(crate) reduction: Reduction,
    pub(crate) window: Window,
    pub(crate) activation: Activation,
    /// `[height, width]` of the output.
    pub(crate) output: [usize; 2],
    /// Whether images, and with them their gradient, lie channels last in memory.
    pub(crate) images_last: bool,
    /// Whether the output is to lie channels last in memory.
    pub(crate) output_last: bool,
}

impl Geometry {
    /// Of images `[N, C, H, W]` and a weight `[O, C / groups, KH, KW]`; `None` where another implementation must
    /// serve: sizes that do not fit, and shapes without a fast path. Images and output lie as their shapes say.
    pub fn new(images: [usize; 4], weight: [usize; 4], block: &ConvBlock) -> Option<Self> {
        let [count, total, height, width] = images;
        let [out_channels, channels, kernel_height, kernel_width] = weight;
        let groups = block.groups;
        let kernel = [kernel_height, kernel_width];
        let size = [height, width];
        let fits = groups > 0
            && channels * groups == total
            && out_channels.is_multiple_of(groups)
            && [count, channels, out_channels].iter().all(|&len| len > 0);
        if !fits {
            return None;
        }
        let features = out_channels / groups;
        // Depthwise convolutions leave most lanes of a vector empty.
        if groups > 1 && (features < 4 || channels < 4) {
            return None;
        }
        let relu = block.activation == Activation::Relu;
        let (reduction, window) = match block.pool {
            // A rectifier alone is a maximum over one value: its code tells whether it is alive.
            Pool::None if relu => (Reduction::Max, Window::ONE),
            Pool::None => (Reduction::Copy, Window::ONE),
            Pool::Max { kernel, stride, padding } => (Reduction::Max, Window { kernel, stride, padding }),
            Pool::Average { kernel, stride, padding } => {
                (Reduction::Average, Window { kernel, stride, padding })
            }
        };
        let mut inner = [0; 2];
        let mut output = [0; 2];
        for axis in 0..2 {
            if block.stride[axis] == 0
                || window.stride[axis] == 0
                || kernel[axis] == 0
                || window.kernel[axis] == 0
            {
                return None;
            }
            let padded = size[axis] + 2 * block.padding[axis];
            if padded < kernel[axis] || block.padding[axis] >= kernel[axis] {
                return None;
            }
            let full = (padded - kernel[axis]) / block.stride[axis] + 1;
            let pool_padded = full + 2 * window.padding[axis];
            if pool_padded < window.kernel[axis] || window.padding[axis] >= window.kernel[axis] {
                return None;
            }
            output[axis] = (pool_padded - window.kernel[axis]) / window.stride[axis] + 1;
            let last = (output[axis] - 1) * window.stride[axis] + window.kernel[axis];
            inner[axis] = full.min(last.saturating_sub(window.padding[axis]));
            // The last window must see a value.
            if (output[axis] - 1) * window.stride[axis] >= full + window.padding[axis] || inner[axis] == 0 {
                return None;
            }
        }
        if window.area() >= usize::from(DEAD) || height * width * channels > 1 << 28 {
            return None;
        }
        Some(Self {
            images: count,
            groups,
            channels,
            features,
            size,
            kernel,
            stride: block.stride,
            padding: block.padding,
            inner,
            reduction,
            window,
            activation: block.activation,
            output,
            images_last: false,
            output_last: false,
        })
    }

    /// Whether the code for these sizes takes images that lie channels last as they are.
    pub fn reads_last(&self, lanes: usize) -> bool {
        !self.is_planar(lanes) && self.groups == 1 && self.channels.is_multiple_of(lanes)
    }

    /// Tells that the images lie channels last, `[N, H, W, C]`, which [`Self::reads_last`] must allow; their gradient
    /// then does, too.
    #[must_use]
    pub fn with_images_last(self, images_last: bool) -> Self {
        Self { images_last, ..self }
    }

    /// Whether the images lie channels last.
    pub fn has_images_last(&self) -> bool {
        self.images_last
    }

    /// Lets the output lie channels last where it can, and where the block `next` reads it so.
    #[must_use]
    pub fn before(self, next: Option<&Self>, lanes: usize) -> Self {
        let output_last = self.writes_last(lanes) && next.is_some_and(|next| next.reads_last(lanes));
        Self { output_last, ..self }
    }

    /// Whether the output lies channels last.
    pub fn has_output_last(&self) -> bool {
        self.output_last
    }

    /// Whether code of so many lanes takes images and output as they lie.
    pub(crate) fn is_laid_out(&self, lanes: usize) -> bool {
        (!self.images_last || self.reads_last(lanes)) && (!self.output_last || self.writes_last(lanes))
    }

    /// Whether it can leave the output channels last, and take its gradient so.
    pub fn writes_last(&self, lanes: usize) -> bool {
        !self.is_planar(lanes)
            && self.groups == 1
            && self.features.is_multiple_of(lanes)
            && self.reduction != Reduction::Copy
    }

    /// `[N, O, H', W']`.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.images, self.groups * self.features, self.output[0], self.output[1]]
    }

    /// `[N, C, H, W]`.
    pub fn images_shape(&self) -> [usize; 4] {
        [self.images, self.groups * self.channels, self.size[0], self.size[1]]
    }

    /// Values of one channel of one image.
    pub(crate) fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Values of one image of one group.
    pub(crate) fn image_len(&self) -> usize {
        self.plane() * self.channels
    }

    pub(crate) fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Values of the output of one image of one group.
    pub(crate) fn output_len(&self) -> usize {
        self.output_plane() * self.features
    }

    /// `[height, width]` of an image with its border of zeros.
    pub(crate) fn padded(&self) -> [usize; 2] {
        [self.size[0] + 2 * self.padding[0], self.size[1] + 2 * self.padding[1]]
    }

    /// Values of one row of a padded image, channels last.
    pub(crate) fn row(&self) -> usize {
        self.padded()[1] * self.channels
    }

    /// Neighbouring values that one row of the kernel covers, channels last.
    pub(crate) fn run(&self) -> usize {
        self.kernel[1] * self.channels
    }

    /// Positions of the kernel.
    pub(crate) fn area(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Values that the whole kernel covers.
    pub(crate) fn taps(&self) -> usize {
        self.kernel[0] * self.run()
    }

    /// Values of the weight of one group.
    pub(crate) fn weight_len(&self) -> usize {
        self.taps() * self.features
    }

    /// Output channels of a group, rounded up to whole vectors.
    pub(crate) fn features_padded(&self, lanes: usize) -> usize {
        self.features.next_multiple_of(lanes)
    }

    /// The sizes of the convolution where minimal filtering serves it, channels last.
    pub(crate) fn winograd(&self, lanes: usize) -> Option<winograd::Sizes> {
        let channels = [self.channels, self.features_padded(lanes)];
        winograd::Sizes::new(lanes, self.kernel, self.stride, channels, self.inner)
    }

    /// The same for the convolution that gives the gradient of the image.
    pub(crate) fn turned_winograd(&self, lanes: usize) -> Option<winograd::Sizes> {
        let channels = [self.features_padded(lanes), self.channels.next_multiple_of(lanes)];
        winograd::Sizes::new(lanes, self.kernel, self.stride, channels, self.size)
    }

    pub(crate) fn is_rectified(&self) -> bool {
        self.activation == Activation::Relu
    }

    /// Whether the code for these sizes knows the activation: smooth ones only on planes.
    pub fn is_fused(&self, lanes: usize) -> bool {
        self.activation != Activation::Tanh || self.is_planar(lanes)
    }

    /// Whether the output is the convolution, activated.
    pub(crate) fn is_unpooled(&self) -> bool {
        let window = &self.window;
        window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0, 0]
    }

    /// Whether the backward pass asks for the output.
    pub fn keeps_output(&self, lanes: usize) -> bool {
        self.is_unpooled() && self.needs_inner(lanes)
    }

    /// Whether the block runs on planes, where that takes no more vectors than channels last, forward
    /// and backward.
    pub(crate) fn is_planar(&self, lanes: usize) -> bool {
        let reduces = self.reduction == Reduction::Max && !self.is_unpooled();
        if self.stride != [1, 1] || reduces {
            return false;
        }
        if self.winograd(lanes).is_some() && self.turned_winograd(lanes).is_some() {
            return false;
        }
        let on_planes =
            1.0 / self.plane_sizes().use_of_lanes(lanes) + 1.0 / self.turned_sizes().use_of_lanes(lanes);
        let padded = |channels: usize| channels.next_multiple_of(lanes) as f64 / channels as f64;
        // Channels last costs transposes besides.
        on_planes <= 1.2 * (padded(self.features) + padded(self.channels))
    }

    /// Whether the backward pass asks for the activated values of the convolution.
    pub(crate) fn needs_inner(&self, lanes: usize) -> bool {
        self.activation != Activation::None && self.is_planar(lanes)
    }

    /// The convolution of the forward pass.
    pub(crate) fn plane_sizes(&self) -> planes::Sizes {
        planes::Sizes {
            inputs: self.channels,
            outputs: self.features,
            kernel: self.kernel,
            size: self.size,
            border: self.padding,
            output: self.inner,
        }
    }

    /// The convolution that gives the gradient of the image.
    pub(crate) fn turned_sizes(&self) -> planes::Sizes {
        planes::Sizes {
            inputs: self.features,
            outputs: self.channels,
            kernel: self.kernel,
            size: self.inner,
            border: std::array::from_fn(|axis| self.kernel[axis] - 1 - self.padding[axis]),
            output: self.size,
        }
    }

    /// Planes of the gradient of the convolution, without a border.
    pub(crate) fn gradient_sizes(&self) -> planes::Sizes {
        planes::Sizes { kernel: [1, 1], border: [0, 0], output: self.inner, ..self.turned_sizes() }
    }

    /// Whether the backward pass needs codes.
    fn has_codes(&self, lanes: usize) -> bool {
        match self.reduction {
            Reduction::Copy => false,
            Reduction::Max => !self.is_planar(lanes),
            Reduction::Average => self.is_rectified() && !self.is_planar(lanes),
        }
    }

    /// Codes of one group of one image: one per output for the maximum, one per inner value for the
    /// average.
    pub(crate) fn codes_len(&self, lanes: usize) -> usize {
        if !self.has_codes(lanes) {
            return 0;
        }
        let positions = match self.reduction {
            Reduction::Average => self.inner[0] * self.inner[1],
            _ => self.output_plane(),
        };
        positions * self.features_padded(lanes)
    }

    /// Where in the padded image the kernel starts for each inner value, in row order.
    pub(crate) fn offsets(&self) -> Vec<u32> {
        let [rows, columns] = self.inner;
        let mut offsets = Vec::with_capacity(rows * columns);
        for row in 0..rows {
            let start = row * self.stride[0] * self.row();
            let step = self.stride[1] * self.channels;
            offsets.extend((0..columns).map(|column| (start + column * step) as u32));
        }
        offsets
    }
}
