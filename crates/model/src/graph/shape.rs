//! Why a network cannot be built for an input.

use super::layers::sides;

/// Why a network cannot be built for an input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ShapeError {
    /// A size that must be positive is zero.
    #[error("{layer}: `{field}` is 0; it must be at least 1")]
    Zero {
        /// Name of the layer.
        layer: String,
        /// Name of the size.
        field: &'static str,
    },
    /// The kernel is larger than the padded input.
    #[error(
        "{layer}: a {}x{} kernel does not fit into its {height}x{width} input with padding {}; \
         use a smaller kernel, more padding, fewer or weaker poolings before it, or larger images",
        kernel[0],
        kernel[1],
        sides(padding)
    )]
    KernelTooLarge {
        /// Name of the layer.
        layer: String,
        /// Rows and columns under the kernel, with those that a dilation leaves out.
        kernel: [usize; 2],
        /// Rows of the layer's input.
        height: usize,
        /// Columns of the layer's input.
        width: usize,
        /// Padding at the top, the left, the bottom and the right.
        padding: [usize; 4],
    },
    /// A layer that does not take what flows into it.
    #[error("{layer}: takes {expected}, found an input of the shape {found:?}")]
    Form {
        /// Name of the layer.
        layer: String,
        /// What it takes.
        expected: String,
        /// Shape of its input for one image.
        found: Vec<usize>,
    },
    /// A pooling window could lie in the padding alone.
    #[error(
        "{layer}: padding {padding} is more than half of the kernel {kernel}, so that a window could hold padding only; \
         use at most {}",
        kernel / 2
    )]
    PoolPadding {
        /// Name of the layer.
        layer: String,
        /// Side of the window.
        kernel: usize,
        /// Padding on each side.
        padding: usize,
    },
    /// A size beyond all measure.
    #[error("{layer}: {what} exceed the limit of {limit}; make the layer or its input smaller")]
    TooLarge {
        /// Name of the layer.
        layer: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// More work than a network of its size is worth.
    #[error(
        "the network: {what} are {found}, for {parameters} parameters at most {limit}; make the images smaller, or the \
         strides and poolings stronger"
    )]
    Work {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// Trainable parameters.
        parameters: u64,
        /// The limit.
        limit: u64,
    },
    /// A probability outside `[0, 1)`.
    #[error("{layer}: `dropout` is {value}; it must be at least 0 and below 1")]
    Dropout {
        /// Name of the layer.
        layer: String,
        /// The value given.
        value: f64,
    },
    /// An architecture that is published in some depths only.
    #[error("{network}: `depth` is {depth}; expected one of {known:?}")]
    Depth {
        /// Name of the family.
        network: &'static str,
        /// The depth given.
        depth: usize,
        /// Depths on offer.
        known: &'static [usize],
    },
    /// Two sizes of which one must be a multiple of the other.
    #[error("{layer}: {what} {value} is not a multiple of {divisor_name} {divisor}; {advice}")]
    Indivisible {
        /// Name of the layer.
        layer: String,
        /// Name of the size.
        what: &'static str,
        /// The size.
        value: usize,
        /// Name of what must divide it.
        divisor_name: &'static str,
        /// Its value.
        divisor: usize,
        /// What to do.
        advice: &'static str,
    },
    /// Too few classes to tell apart.
    #[error("head: {classes} classes; a classifier needs at least 2")]
    Classes {
        /// The number given.
        classes: usize,
    },
    /// A width of the initial distribution that is no positive number.
    #[error("initialization: `{field}` is {value}; it must be positive and finite")]
    Initialization {
        /// Name of the parameter.
        field: &'static str,
        /// The value given.
        value: f64,
    },
}
