//! Shape arithmetic: the one place where the size of a layer's output is computed and checked.

use std::fmt::Write as _;

use crate::{
    Activation, InputShape, PoolConfig, PoolKind,
    summary::{LayerSummary, Summary, TensorSpec},
};

/// Most trainable parameters a network may have; beyond it a typo is likelier than a plan (VGG-19
/// has 144 million).
const MAX_PARAMETERS: usize = 1 << 31;

/// Most values a layer may put out for one image (a 4096 x 4096 grey image; VGG's largest is 3.2
/// million); the same for a layer's padded input.
const MAX_OUTPUT: usize = 1 << 24;

/// Most values in the unfolded patches of one image, `H' W' C K K`, which a convolution may
/// materialise (VGG's largest is 28.9 million).
const MAX_PATCHES: usize = 1 << 28;

/// Most layers; ResNet-110, the deepest on offer, has a few hundred.
const MAX_LAYERS: usize = 1 << 14;

/// Most values that all layers together put out for one image, besides those for each parameter. A network of few
/// parameters on a huge image would keep a reader busy for minutes and fill its memory; those that are trained stay
/// far below (ResNet-20 on 224 x 224: 25 million).
const MAX_VALUES: u64 = 1 << 26;
const MAX_VALUES_PER_PARAMETER: u64 = 1 << 11;

/// Most multiply-accumulates for one image, besides those for each parameter (ResNet-20 on 1024 x 1024: 42
/// thousand million, 155 thousand for each parameter).
const MAX_MACS: u64 = 1 << 33;
const MAX_MACS_PER_PARAMETER: u64 = 1 << 17;

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
        "{layer}: a {kernel}x{kernel} kernel does not fit into its {height}x{width} input with padding {padding}; \
         use a smaller kernel, more padding, fewer or weaker poolings before it, or larger images"
    )]
    KernelTooLarge {
        /// Name of the layer.
        layer: String,
        /// Side of the kernel.
        kernel: usize,
        /// Rows of the layer's input.
        height: usize,
        /// Columns of the layer's input.
        width: usize,
        /// Padding on each side.
        padding: usize,
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

/// Output length of a convolution or a pooling along one axis,
/// `floor((n + 2 padding - kernel) / stride) + 1`, or `None` where no window fits.
/// (Dumoulin & Visin 2016, "A guide to convolution arithmetic", relationship 6.)
fn output_size(n: usize, kernel: usize, stride: usize, padding: usize) -> Option<usize> {
    Some((n + 2 * padding).checked_sub(kernel)? / stride + 1)
}

/// Follows the shape of one image through the layers as they are declared.
pub(crate) struct ShapeTrace {
    /// `[C, H, W]`, or `[features]` after flattening.
    current: Vec<usize>,
    layers: Vec<LayerSummary>,
    parameters: usize,
    /// What the layers put out for one image, and hold meanwhile.
    values: u64,
}

impl ShapeTrace {
    pub(crate) fn new(input: InputShape, classes: usize) -> Result<Self, ShapeError> {
        if classes < 2 {
            return Err(ShapeError::Classes { classes });
        }
        for (field, size) in [("channels", input.channels), ("height", input.height), ("width", input.width)]
        {
            positive("input", field, size)?;
        }
        let mut trace = Self { current: Vec::new(), layers: Vec::new(), parameters: 0, values: 0 };
        let shape = vec![input.channels, input.height, input.width];
        trace.push("input".into(), "image".into(), shape, 0, vec![])?;
        Ok(trace)
    }

    /// Channels of the current `[C, H, W]`.
    pub(crate) fn channels(&self) -> usize {
        self.current[0]
    }

    /// Adds a convolution with a square kernel; weights `[O, C, K, K]`.
    pub(crate) fn conv(
        &mut self,
        name: &str,
        channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
    ) -> Result<(), ShapeError> {
        for (field, size) in [("channels", channels), ("kernel", kernel), ("stride", stride)] {
            positive(name, field, size)?;
        }
        let [height, width] = self.windows(name, kernel, stride, padding)?;
        let inputs = self.channels();

        let patch = product(&[inputs, kernel, kernel])
            .and_then(|patch| Some((patch, product(&[patch, height, width])?)))
            .filter(|(_, patches)| *patches <= MAX_PATCHES);
        let Some((patch, _)) = patch else {
            return Err(too_large(name, "the values under all kernel positions", MAX_PATCHES));
        };
        let mut tensors = vec![tensor(name, "weight", vec![channels, inputs, kernel, kernel])];
        if bias {
            tensors.push(tensor(name, "bias", vec![channels]));
        }
        let mut kind = format!("conv {kernel}x{kernel}");
        describe(&mut kind, stride, 1, padding);
        let macs = (channels as u64).saturating_mul((patch * height * width) as u64);
        self.push(name.into(), kind, vec![channels, height, width], macs, tensors)
    }

    /// Adds batch normalisation over the channels.
    pub(crate) fn batch_norm(&mut self, name: &str) -> Result<(), ShapeError> {
        let channels = self.channels();
        let mut tensors: Vec<_> = ["gamma", "beta", "running_mean", "running_var"]
            .map(|part| tensor(name, part, vec![channels]))
            .into();
        for statistic in &mut tensors[2..] {
            statistic.trainable = false;
        }
        self.push(name.into(), "batch norm".into(), self.current.clone(), 0, tensors)
    }

    /// Adds an element-wise function.
    pub(crate) fn activation(&mut self, name: &str, activation: Activation) -> Result<(), ShapeError> {
        let kind = match activation {
            Activation::Relu => "ReLU",
            Activation::LeakyRelu => "leaky ReLU",
            Activation::Gelu => "GELU",
            Activation::Silu => "SiLU",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
        };
        self.push(name.into(), kind.into(), self.current.clone(), 0, vec![])
    }

    /// Adds a pooling with a square window.
    pub(crate) fn pool(&mut self, name: &str, pool: &PoolConfig) -> Result<(), ShapeError> {
        let (kernel, stride, padding) = (pool.kernel, pool.stride(), pool.padding);
        for (field, size) in [("kernel", kernel), ("stride", stride)] {
            positive(name, field, size)?;
        }
        if padding > kernel / 2 {
            return Err(ShapeError::PoolPadding { layer: name.into(), kernel, padding });
        }
        let [height, width] = self.windows(name, kernel, stride, padding)?;
        let mut kind = match pool.kind {
            PoolKind::Max => format!("max pool {kernel}x{kernel}"),
            PoolKind::Average => format!("average pool {kernel}x{kernel}"),
        };
        describe(&mut kind, stride, kernel, padding);
        self.push(name.into(), kind, vec![self.channels(), height, width], 0, vec![])
    }

    /// Adds dropout where the probability is not zero.
    pub(crate) fn dropout(&mut self, name: &str, probability: f64) -> Result<(), ShapeError> {
        if !(0.0..1.0).contains(&probability) {
            return Err(ShapeError::Dropout { layer: name.into(), value: probability });
        }
        if probability == 0.0 {
            return Ok(());
        }
        self.push(name.into(), format!("dropout {probability}"), self.current.clone(), 0, vec![])
    }

    /// Adds an average over a grid of `side` x `side` cells, whatever the current size.
    pub(crate) fn grid(&mut self, name: &str, side: usize) -> Result<(), ShapeError> {
        positive(name, "grid", side)?;
        let shape = vec![self.channels(), side, side];
        self.push(name.into(), format!("average to {side}x{side}"), shape, 0, vec![])
    }

    /// The current `[C, H, W]` or `[features]`.
    pub(crate) fn shape(&self) -> Vec<usize> {
        self.current.clone()
    }

    /// Goes back to a shape from which another branch leaves.
    pub(crate) fn branch(&mut self, shape: Vec<usize>) {
        self.current = shape;
    }

    /// Adds a layer that is none of the common ones; `tensors` are its parts with their shapes.
    pub(crate) fn layer(
        &mut self,
        name: &str,
        kind: impl Into<String>,
        output: Vec<usize>,
        macs: u64,
        tensors: &[(&str, Vec<usize>)],
    ) -> Result<(), ShapeError> {
        let tensors = tensors.iter().map(|(part, shape)| tensor(name, part, shape.clone())).collect();
        self.push(name.into(), kind.into(), output, macs, tensors)
    }

    /// Turns `[C, H, W]` into `[C * H * W]`.
    pub(crate) fn flatten(&mut self, name: &str) -> Result<(), ShapeError> {
        let features = self.current.iter().product();
        self.push(name.into(), "flatten".into(), vec![features], 0, vec![])
    }

    /// Adds a dense layer on the last axis of `[features]` or `[T, features]`; weights `[I, O]`.
    /// Returns the number of its inputs.
    pub(crate) fn linear(&mut self, name: &str, outputs: usize) -> Result<usize, ShapeError> {
        positive(name, "outputs", outputs)?;
        let mut output = self.current.clone();
        let inputs = output.pop().unwrap_or(1);
        let rows: usize = output.iter().product();
        output.push(outputs);
        let tensors =
            vec![tensor(name, "weight", vec![inputs, outputs]), tensor(name, "bias", vec![outputs])];
        let macs = (inputs as u64).saturating_mul(outputs as u64).saturating_mul(rows as u64);
        self.push(name.into(), "dense".into(), output, macs, tensors)?;
        Ok(inputs)
    }

    /// Counts values that a layer holds besides its output.
    pub(crate) fn holds(&mut self, name: &str, sizes: &[usize]) -> Result<(), ShapeError> {
        let values = product(sizes).filter(|values| *values <= MAX_PATCHES);
        let values = values.ok_or_else(|| too_large(name, "the values it holds", MAX_PATCHES))?;
        self.values += values as u64;
        Ok(())
    }

    /// The layers, if one image is no more work than a network of so many parameters may be.
    pub(crate) fn finish(self) -> Result<Summary, ShapeError> {
        let summary = Summary { layers: self.layers };
        let parameters = self.parameters as u64;
        let most = |base: u64, each: u64| base.saturating_add(parameters.saturating_mul(each));
        let macs = summary.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.macs));
        for (what, found, limit) in [
            (
                "the values of all layers for one image",
                self.values,
                most(MAX_VALUES, MAX_VALUES_PER_PARAMETER),
            ),
            ("the multiply-accumulates for one image", macs, most(MAX_MACS, MAX_MACS_PER_PARAMETER)),
        ] {
            if found > limit {
                return Err(ShapeError::Work { what, found, parameters, limit });
            }
        }
        Ok(summary)
    }

    /// Rows and columns of window positions over the current `[C, H, W]`.
    fn windows(
        &self,
        name: &str,
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Result<[usize; 2], ShapeError> {
        let (height, width) = (self.current[1], self.current[2]);
        // An operator may copy its input into a padded one.
        let padded = |n: usize| padding.checked_mul(2)?.checked_add(n);
        let values = padded(height).zip(padded(width)).and_then(|(h, w)| product(&[self.channels(), h, w]));
        if values.is_none_or(|values| values > MAX_OUTPUT) {
            return Err(too_large(name, "values of the padded input", MAX_OUTPUT));
        }
        match (output_size(height, kernel, stride, padding), output_size(width, kernel, stride, padding)) {
            (Some(height), Some(width)) => Ok([height, width]),
            _ => Err(ShapeError::KernelTooLarge { layer: name.into(), kernel, height, width, padding }),
        }
    }

    fn push(
        &mut self,
        name: String,
        kind: String,
        output: Vec<usize>,
        macs: u64,
        tensors: Vec<TensorSpec>,
    ) -> Result<(), ShapeError> {
        let values = product(&output).filter(|values| *values <= MAX_OUTPUT);
        let values = values.ok_or_else(|| too_large(&name, "output values for one image", MAX_OUTPUT))?;
        if self.layers.len() == MAX_LAYERS {
            return Err(too_large(&name, "layers", MAX_LAYERS));
        }
        let mut parameters = Some(0usize);
        for tensor in tensors.iter().filter(|tensor| tensor.trainable) {
            parameters =
                parameters.zip(product(&tensor.shape)).and_then(|(sum, values)| sum.checked_add(values));
        }
        let total = parameters.and_then(|parameters| self.parameters.checked_add(parameters));
        let (Some(parameters), Some(total)) = (parameters, total.filter(|&total| total <= MAX_PARAMETERS))
        else {
            return Err(too_large(&name, "the parameters so far", MAX_PARAMETERS));
        };
        self.parameters = total;
        self.values += values as u64;
        self.current.clone_from(&output);
        self.layers.push(LayerSummary { name, kind, output, parameters, macs, tensors });
        Ok(())
    }
}

fn positive(layer: &str, field: &'static str, size: usize) -> Result<(), ShapeError> {
    if size == 0 {
        return Err(ShapeError::Zero { layer: layer.into(), field });
    }
    Ok(())
}

fn too_large(layer: &str, what: &'static str, limit: usize) -> ShapeError {
    ShapeError::TooLarge { layer: layer.into(), what, limit }
}

fn product(sizes: &[usize]) -> Option<usize> {
    sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}

fn tensor(layer: &str, part: &str, shape: Vec<usize>) -> TensorSpec {
    TensorSpec { name: format!("{layer}.{part}"), shape, trainable: true }
}

/// Appends what differs from the usual stride and padding.
fn describe(kind: &mut String, stride: usize, usual_stride: usize, padding: usize) {
    if stride != usual_stride {
        let _ = write!(kind, ", stride {stride}");
    }
    if padding != 0 {
        let _ = write!(kind, ", padding {padding}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn output_sizes_of_the_default_net() {
        assert_eq!(output_size(28, 3, 1, 0), Some(26));
        assert_eq!(output_size(26, 2, 2, 0), Some(13));
        assert_eq!(output_size(13, 3, 1, 0), Some(11));
        assert_eq!(output_size(11, 2, 2, 0), Some(5));
        assert_eq!(output_size(2, 3, 1, 0), None);
        assert_eq!(output_size(2, 3, 1, 1), Some(2));
    }

    proptest! {
        /// The formula counts the start positions at which a window lies inside the padded input.
        #[test]
        fn output_size_counts_windows(n in 1usize..40, kernel in 1usize..9, stride in 1usize..6, padding in 0usize..5) {
            let padded = n + 2 * padding;
            let windows = (0..padded).step_by(stride).filter(|start| start + kernel <= padded).count();
            prop_assert_eq!(output_size(n, kernel, stride, padding).unwrap_or(0), windows);
        }
    }
}
