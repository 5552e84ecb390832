//! safetensors with the names and layouts of a `PyTorch` `nn.Sequential`.

use std::{borrow::Cow, collections::HashMap};

use safetensors::{Dtype, View};

use super::{ExportError, Layer, Sequence, WeightTensor, answers};
use crate::{Activation, Metadata, PoolConfig, PoolKind, record::little_endian};

/// One tensor of the file.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The file. Its tensors are the `state_dict` of [`sequential_in_pytorch`], which is in its metadata as
/// `pytorch`; weights of dense layers are `[O, I]` there. An int8 weight `NAME` (type `I8`) has its scales,
/// one for each output, in `NAME_scale`.
///
/// The metadata have `classes`, `mean`, `std`, `input` (`[C, H, W]`) and `temperature` as JSON, what makes
/// `probabilities` of logits, what `rejection` is missing, and `weights_sha256`.
///
/// # Errors
/// [`ExportError::Container`].
pub fn safetensors(sequence: &Sequence, metadata: &Metadata) -> Result<Vec<u8>, ExportError> {
    let mut tensors: Vec<(String, Stored)> = Vec::new();
    let float =
        |shape: Vec<usize>, values: &[f32]| Stored { dtype: Dtype::F32, shape, bytes: little_endian(values) };
    let vector = |values: &[f32]| float(vec![values.len()], values);
    let weight = |name: String, tensor: WeightTensor, tensors: &mut Vec<(String, Stored)>| match tensor {
        WeightTensor::Float { shape, values } => tensors.push((name, float(shape, &values))),
        WeightTensor::Int8(tensor) => {
            tensors.push((format!("{name}_scale"), vector(&tensor.scales)));
            let bytes = tensor.values.iter().map(|value| value.to_le_bytes()[0]).collect();
            tensors.push((name, Stored { dtype: Dtype::I8, shape: tensor.shape, bytes }));
        }
    };
    for (name, layer) in numbered(sequence) {
        match layer {
            Layer::Conv { weight: filters, bias, .. } => {
                weight(format!("{name}.weight"), filters.clone(), &mut tensors);
                tensors.extend(bias.as_ref().map(|bias| (format!("{name}.bias"), vector(bias))));
            }
            Layer::BatchNorm { gamma, beta, mean, variance, .. } => {
                for (part, values) in
                    [("weight", gamma), ("bias", beta), ("running_mean", mean), ("running_var", variance)]
                {
                    tensors.push((format!("{name}.{part}"), vector(values)));
                }
            }
            Layer::Linear { weight: matrix, bias } => {
                weight(format!("{name}.weight"), matrix.clone().transposed(), &mut tensors);
                tensors.push((format!("{name}.bias"), vector(bias)));
            }
            Layer::Activation(_) | Layer::Pool(_) | Layer::Flatten => {}
        }
    }
    let input = metadata.preprocessing.input;
    let json = |value: serde_json::Value| value.to_string();
    let about: HashMap<String, String> = [
        ("pytorch", sequential_in_pytorch(sequence)),
        ("classes", json(metadata.classes.clone().into())),
        ("mean", json(metadata.preprocessing.mean.clone().into())),
        ("std", json(metadata.preprocessing.std.clone().into())),
        ("input", json(vec![input.channels, input.height, input.width].into())),
        ("weights_sha256", metadata.weights_sha256.clone()),
        ("kiln_version", metadata.kiln_version.clone()),
        ("format", "pt".to_owned()),
    ]
    .into_iter()
    .chain(answers(metadata))
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    let views = tensors.iter().map(|(name, stored)| (name.as_str(), stored));
    safetensors::serialize(views, Some(about))
        .map_err(|error| ExportError::Container { format: "safetensors", reason: error.to_string() })
}

/// The layers under the names that `PyTorch` gives them: those before the flattening are `features.N`,
/// those behind it `classifier.N`, counted with the layers that have no weights.
fn numbered(sequence: &Sequence) -> impl Iterator<Item = (String, &Layer)> {
    let flatten = sequence.layers.iter().position(|layer| *layer == Layer::Flatten).unwrap_or_default();
    sequence.layers.iter().enumerate().map(move |(index, layer)| {
        let name = match index.checked_sub(flatten + 1) {
            Some(index) => format!("classifier.{index}"),
            None if index == flatten => "flatten".to_owned(),
            None => format!("features.{index}"),
        };
        (name, layer)
    })
}

/// The equivalent `PyTorch` module, as an expression of Python with `nn` for `torch.nn` and
/// `OrderedDict` for `collections.OrderedDict`. It takes normalised images `[N, C, H, W]` and gives logits `[N, K]`.
pub fn sequential_in_pytorch(sequence: &Sequence) -> String {
    let part = |prefix: &str| {
        let layers = numbered(sequence).filter(|(name, _)| name.starts_with(prefix));
        layers.map(|(_, layer)| in_pytorch(layer)).collect::<Vec<_>>().join(", ")
    };
    format!(
        "nn.Sequential(OrderedDict(features=nn.Sequential({}), flatten=nn.Flatten(), \
         classifier=nn.Sequential({})))",
        part("features"),
        part("classifier")
    )
}

fn in_pytorch(layer: &Layer) -> String {
    match layer {
        Layer::Conv { weight, bias, stride, padding } => {
            let shape = weight.shape();
            let bias = if bias.is_some() { "True" } else { "False" };
            format!(
                "nn.Conv2d({}, {}, {}, stride={stride}, padding={padding}, bias={bias})",
                shape[1], shape[0], shape[2]
            )
        }
        Layer::BatchNorm { gamma, epsilon, .. } => {
            format!("nn.BatchNorm2d({}, eps={epsilon:e})", gamma.len())
        }
        Layer::Activation(activation) => match activation {
            Activation::Relu => "nn.ReLU()",
            Activation::LeakyRelu => "nn.LeakyReLU(0.01)",
            Activation::Gelu => "nn.GELU()",
            Activation::Silu => "nn.SiLU()",
            Activation::Sigmoid => "nn.Sigmoid()",
            Activation::Tanh => "nn.Tanh()",
        }
        .to_owned(),
        Layer::Pool(pool) => {
            let PoolConfig { kind, kernel, padding, .. } = *pool;
            let name = match kind {
                PoolKind::Max => "MaxPool2d",
                PoolKind::Average => "AvgPool2d",
            };
            format!("nn.{name}({kernel}, stride={}, padding={padding})", pool.stride())
        }
        Layer::Flatten => "nn.Flatten()".to_owned(),
        Layer::Linear { weight, .. } => format!("nn.Linear({}, {})", weight.shape()[0], weight.shape()[1]),
    }
}
