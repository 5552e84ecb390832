//! What is pooled, and where.

/// Pooling after the activation. All sizes are `[height, width]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pool {
    /// No pooling.
    #[default]
    None,
    /// The largest value of each window; padding never wins. A NaN in a window gives a NaN.
    Max {
        /// Size of the window.
        kernel: [usize; 2],
        /// Distance between windows.
        stride: [usize; 2],
        /// Rows and columns added on each side.
        padding: [usize; 2],
    },
    /// The mean of each window; padding counts as zeros (`count_include_pad`, the default of
    /// `PyTorch`).
    Average {
        /// Size of the window.
        kernel: [usize; 2],
        /// Distance between windows.
        stride: [usize; 2],
        /// Rows and columns added on each side.
        padding: [usize; 2],
    },
}

/// A window that moves over rows and columns. All sizes are `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its size.
    pub kernel: [usize; 2],
    /// Distance between two places of it.
    pub stride: [usize; 2],
    /// Rows and columns added on each side.
    pub padding: [usize; 2],
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
