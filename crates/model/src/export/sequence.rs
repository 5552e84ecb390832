//! A network as a plain sequence of layers, for formats that know nothing else.

use std::collections::BTreeMap;

use super::{ExportError, WeightTensor};
use crate::{Activation, CnnConfig, InputShape, NetworkConfig, PoolConfig};

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
        NetworkConfig::Cnn(cnn) => cnn_layers(cnn, &mut weights)?,
        #[expect(unreachable_patterns, reason = "networks to come are refused until they are written here")]
        other => {
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

fn cnn_layers(cnn: &CnnConfig, weights: &mut Weights) -> Result<Vec<Layer>, ExportError> {
    let mut layers = Vec::new();
    for (index, block) in cnn.blocks.iter().enumerate() {
        let name = |part: &str| format!("blocks.{index}.{part}");
        layers.push(Layer::Conv {
            weight: weights.take(&name("conv.weight"))?,
            bias: if cnn.batch_norm { None } else { Some(weights.floats(&name("conv.bias"))?) },
            stride: block.stride,
            padding: block.padding,
        });
        if cnn.batch_norm {
            layers.push(Layer::BatchNorm {
                gamma: weights.floats(&name("norm.gamma"))?,
                beta: weights.floats(&name("norm.beta"))?,
                mean: weights.floats(&name("norm.running_mean"))?,
                variance: weights.floats(&name("norm.running_var"))?,
                epsilon: EPSILON,
            });
        }
        layers.push(Layer::Activation(cnn.activation));
        layers.extend(block.pool.map(Layer::Pool));
    }
    layers.push(Layer::Flatten);
    for index in 0..cnn.dense.len() {
        layers.push(weights.linear(&format!("dense.{index}"))?);
        layers.push(Layer::Activation(cnn.activation));
    }
    layers.push(weights.linear("head")?);
    Ok(layers)
}
