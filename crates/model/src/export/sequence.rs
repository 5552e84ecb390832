//! A network as a plain sequence of layers, for formats that know nothing else.

use std::collections::BTreeMap;

use super::{ExportError, WeightTensor};
use crate::{Activation, InputShape, NetworkConfig, PoolConfig, cnn::Layout};

/// One layer with its weights. Dropout is left out: an exported network does not train.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// A convolution with a square kernel.
    Conv {
        /// `[O, I, K, K]`
        weight: WeightTensor,
        /// `[O]`
        bias: Option<Vec<f32>>,
        /// Step of the kernel.
        stride: usize,
        /// Zeros on every side.
        padding: usize,
    },
    /// Batch normalisation by the running statistics, `[C]` each.
    BatchNorm {
        /// Factor.
        gamma: Vec<f32>,
        /// Offset.
        beta: Vec<f32>,
        /// Running mean.
        mean: Vec<f32>,
        /// Running variance.
        variance: Vec<f32>,
        /// Added to the variance.
        epsilon: f64,
    },
    /// A function of every value.
    Activation(Activation),
    /// Maximum or mean of windows.
    Pool(PoolConfig),
    /// `[C, H, W]` to `[C * H * W]`.
    Flatten,
    /// A dense layer.
    Linear {
        /// `[I, O]`
        weight: WeightTensor,
        /// `[O]`
        bias: Vec<f32>,
    },
}

/// A whole network.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// Size of one image.
    pub input: InputShape,
    /// From the normalised image to the logits.
    pub layers: Vec<Layer>,
}

/// Epsilon of every batch normalisation that the configurations build, see `Builder::batch_norm`.
const EPSILON: f64 = 1e-5;

/// The network as a sequence of layers with the weights of a record (see [`crate::named_tensors`]).
///
/// # Errors
/// A network that is no plain sequence, or a record that does not belong to it.
pub fn sequence(
    config: &NetworkConfig,
    input: InputShape,
    tensors: &[(String, WeightTensor)],
    format: &'static str,
) -> Result<Sequence, ExportError> {
    let mut weights = Weights {
        tensors: tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect(),
        config,
        format,
    };
    let layers = match config {
        NetworkConfig::Cnn(cnn) => layout_layers(&cnn.layout(), input, &mut weights)?,
        NetworkConfig::LeNet5(lenet) => layout_layers(&lenet.layout(input), input, &mut weights)?,
        NetworkConfig::AlexNet(alexnet) => layout_layers(&alexnet.layout(), input, &mut weights)?,
        NetworkConfig::Vgg(vgg) => {
            let layout =
                vgg.layout().map_err(|error| ExportError::unsupported(config, format, error.to_string()))?;
            layout_layers(&layout, input, &mut weights)?
        }
        NetworkConfig::Mlp(mlp) => {
            let mut layers = vec![Layer::Flatten];
            for index in 0..mlp.hidden.len() {
                layers.push(weights.linear(&format!("blocks.{index}"))?);
                layers.push(Layer::Activation(mlp.activation));
            }
            layers.push(weights.linear("head")?);
            layers
        }
        other @ (NetworkConfig::Rnn(_) | NetworkConfig::ResNet(_) | NetworkConfig::Vit(_)) => {
            let reason = "it is not a plain sequence of layers; export it as npz or burnpack";
            return Err(ExportError::unsupported(other, format, reason));
        }
    };
    if let Some(name) = weights.tensors.keys().next() {
        return Err(ExportError::unsupported(config, format, format!("nothing uses its tensor `{name}`")));
    }
    Ok(Sequence { input, layers })
}

/// The tensors that no layer has taken yet.
struct Weights<'a> {
    tensors: BTreeMap<&'a str, &'a WeightTensor>,
    config: &'a NetworkConfig,
    format: &'static str,
}

impl Weights<'_> {
    fn take(&mut self, name: &str) -> Result<WeightTensor, ExportError> {
        let missing =
            || ExportError::unsupported(self.config, self.format, format!("its tensor `{name}` is missing"));
        self.tensors.remove(name).cloned().ok_or_else(missing)
    }

    fn floats(&mut self, name: &str) -> Result<Vec<f32>, ExportError> {
        Ok(self.take(name)?.to_floats())
    }

    fn linear(&mut self, name: &str) -> Result<Layer, ExportError> {
        Ok(Layer::Linear {
            weight: self.take(&format!("{name}.weight"))?,
            bias: self.floats(&format!("{name}.bias"))?,
        })
    }
}

fn layout_layers(
    layout: &Layout,
    input: InputShape,
    weights: &mut Weights,
) -> Result<Vec<Layer>, ExportError> {
    let mut layers = Vec::new();
    let mut size = [input.height, input.width];
    let mut shrink = |kernel: usize, stride: usize, padding: usize| {
        size = size.map(|n| (n + 2 * padding).saturating_sub(kernel) / stride + 1);
        size
    };
    let mut grid = [input.height, input.width];
    for (index, block) in layout.blocks.iter().enumerate() {
        let name = |part: &str| format!("blocks.{index}.{part}");
        layers.push(Layer::Conv {
            weight: weights.take(&name("conv.weight"))?,
            bias: if layout.conv_bias { Some(weights.floats(&name("conv.bias"))?) } else { None },
            stride: block.stride,
            padding: block.padding,
        });
        grid = shrink(block.kernel, block.stride, block.padding);
        if layout.batch_norm {
            layers.push(Layer::BatchNorm {
                gamma: weights.floats(&name("norm.gamma"))?,
                beta: weights.floats(&name("norm.beta"))?,
                mean: weights.floats(&name("norm.running_mean"))?,
                variance: weights.floats(&name("norm.running_var"))?,
                epsilon: EPSILON,
            });
        }
        layers.push(Layer::Activation(layout.activation));
        if let Some(pool) = block.pool {
            layers.push(Layer::Pool(pool));
            grid = shrink(pool.kernel, pool.stride(), pool.padding);
        }
    }
    if let Some(side) = layout.grid.filter(|&side| grid != [side; 2]) {
        let reason = format!(
            "its {}x{} features are averaged to {side}x{side} cells, which this format has no layer for; train with \
             network.grid = {}",
            grid[0], grid[1], grid[0]
        );
        return Err(ExportError::unsupported(weights.config, weights.format, reason));
    }
    layers.push(Layer::Flatten);
    for index in 0..layout.dense.len() {
        layers.push(weights.linear(&format!("dense.{index}"))?);
        layers.push(Layer::Activation(layout.activation));
    }
    layers.push(weights.linear("head")?);
    Ok(layers)
}
