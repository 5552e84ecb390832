//! The sizes of one fused block, checked once.

use super::{ConvBlock, Pool, winograd};
use crate::Activation;

/// Code of a pooled value whose gradient is stopped by the rectifier.
pub(crate) const DEAD: u8 = 255;

/// A window over the rows and columns of the convolution's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

impl Window {
    /// A window on each single value.
    pub(crate) const ONE: Self = Self { kernel: [1, 1], stride: [1, 1], padding: [0, 0] };

    pub(crate) fn area(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// First row (or column) and one past the last that output `index` sees, of `len`; and how many
    /// rows of the window lie before the first.
    pub(crate) fn range(&self, axis: usize, index: usize, len: usize) -> (usize, usize, usize) {
        let start = index * self.stride[axis];
        let skipped = self.padding[axis].saturating_sub(start);
        let first = start.saturating_sub(self.padding[axis]);
        let last = (start + self.kernel[axis] - self.padding[axis]).min(len);
        (first, last, skipped)
    }

    /// Whether windows of two by two lie side by side.
    pub(crate) fn is_two(&self) -> bool {
        self.kernel == [2, 2] && self.stride == [2, 2] && self.padding == [0, 0]
    }

    /// Whether no two windows share a value.
    pub(crate) fn is_disjoint(&self) -> bool {
        self.stride[0] >= self.kernel[0] && self.stride[1] >= self.kernel[1]
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

/// All sizes. "Inner" is the output of the convolution, as far as pooling looks at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
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
    /// The sizes, or `None` where the composition of Burn's operators must serve: sizes that do not
    /// fit (it reports them), and shapes without a fast path.
    pub(crate) fn new(images: [usize; 4], weight: [usize; 4], block: &ConvBlock) -> Option<Self> {
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
    pub(crate) fn reads_last(&self, lanes: usize) -> bool {
        !self.is_planar(lanes) && self.groups == 1 && self.channels.is_multiple_of(lanes)
    }

    /// Whether it can leave the output channels last, and take its gradient so.
    pub(crate) fn writes_last(&self, lanes: usize) -> bool {
        !self.is_planar(lanes)
            && self.groups == 1
            && self.features.is_multiple_of(lanes)
            && self.reduction != Reduction::Copy
    }

    pub(crate) fn output_shape(&self) -> [usize; 4] {
        [self.images, self.groups * self.features, self.output[0], self.output[1]]
    }

    pub(crate) fn images_shape(&self) -> [usize; 4] {
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
    pub(crate) fn is_fused(&self, lanes: usize) -> bool {
        self.activation != Activation::Tanh || self.is_planar(lanes)
    }

    /// Whether the output is the convolution, activated.
    pub(crate) fn is_unpooled(&self) -> bool {
        let window = &self.window;
        window.kernel == [1, 1] && window.stride == [1, 1] && window.padding == [0, 0]
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
