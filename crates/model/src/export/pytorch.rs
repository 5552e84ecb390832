//! safetensors with the names and layouts of a `PyTorch` module: an `nn.Sequential` where the layers stand in a row, and
//! else a class that the file brings along.

use std::{borrow::Cow, collections::HashMap, fmt::Write as _};

use safetensors::{Dtype, View};

use super::{
    ExportError, Exported, WeightTensor, answers,
    layers::{maps, steps},
};
use crate::{
    Activation, Cell, Convolution, Metadata, Node, NodeId, Operator, PoolConfig, PoolKind,
    networks::architecture::part_in_pytorch, weights::record::little_endian,
};

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

/// The file. Its tensors are the `state_dict` of a module that its metadata describe; weights of dense layers are
/// `[O, I]` there. An int8 weight `NAME` (type `I8`) has its scales, one for each output, in `NAME_scale`.
///
/// The metadata have the module: `pytorch`, an expression that makes an `nn.Sequential`, where the layers stand in a row,
/// and else `pytorch_module`, a script with a class `Network` (see [`module_in_pytorch`]). Beside it are `classes`,
/// `mean`, `std`, `input` (`[C, H, W]`) and `temperature` as JSON, what makes `probabilities` of logits, what
/// `rejection` is missing, and `weights_sha256`.
///
/// # Errors
/// [`ExportError::Container`].
pub fn safetensors(network: &Exported, metadata: &Metadata) -> Result<Vec<u8>, ExportError> {
    let mut tensors: Vec<(String, Stored)> = Vec::new();
    for (id, node) in network.graph.iter() {
        for spec in &node.tensors {
            let part = spec.name[node.name.len()..].trim_start_matches('.');
            let Some(tensor) = network.tensor(node, part) else { continue };
            let name = format!("{}.{}", module_name(network, id), name_in_pytorch(node, part));
            store(name, tensor.clone().transposed(), &mut tensors);
        }
    }
    let input = metadata.preprocessing.input;
    let json = |value: serde_json::Value| value.to_string();
    let about: HashMap<String, String> = [
        module_in_pytorch(network),
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

fn store(name: String, tensor: WeightTensor, tensors: &mut Vec<(String, Stored)>) {
    match tensor {
        WeightTensor::Float { shape, values } => {
            tensors.push((name, Stored { dtype: Dtype::F32, shape, bytes: little_endian(&values) }));
        }
        WeightTensor::Int8(tensor) => {
            let (shape, bytes) = (vec![tensor.scales.len()], little_endian(&tensor.scales));
            tensors.push((format!("{name}_scale"), Stored { dtype: Dtype::F32, shape, bytes }));
            let bytes = tensor.values.iter().map(|value| value.to_le_bytes()[0]).collect();
            tensors.push((name, Stored { dtype: Dtype::I8, shape: tensor.shape, bytes }));
        }
    }
}

/// What `PyTorch` calls a part of a layer.
fn name_in_pytorch(node: &Node, part: &str) -> String {
    match (&node.operator, part.split_once('.')) {
        (Operator::Recurrent { .. }, Some((side, part))) => {
            let side = if side == "input" { "ih" } else { "hh" };
            format!("{part}_{side}_l0")
        }
        _ => part_in_pytorch(part).to_owned(),
    }
}

/// Whether the network is an `nn.Sequential`: layers in a row, each of which is a module of `PyTorch`, with one flattening.
fn is_sequential(network: &Exported) -> bool {
    let is_module = |node: &Node| match &node.operator {
        Operator::Convolution(convolution) => is_symmetric(convolution),
        Operator::Image
        | Operator::BatchNorm { .. }
        | Operator::Activation(_)
        | Operator::Pool(_)
        | Operator::Average { .. }
        | Operator::Flatten
        | Operator::Dense { .. } => true,
        _ => false,
    };
    let graph = &network.graph;
    let flattenings = graph.nodes.iter().filter(|node| node.operator == Operator::Flatten).count();
    graph.is_sequence() && graph.nodes.iter().all(is_module) && flattenings == 1
}

fn is_symmetric(convolution: &Convolution) -> bool {
    let [top, left, bottom, right] = convolution.padding;
    [top, left] == [bottom, right]
}

/// The name of a layer's module: in a sequence those before the flattening are `features.N`, those behind it
/// `classifier.N`, counted with the layers that have no weights; elsewhere ours.
fn module_name(network: &Exported, id: NodeId) -> String {
    let graph = &network.graph;
    if !is_sequential(network) {
        return graph.node(id).name.clone();
    }
    let flatten = graph.nodes.iter().position(|node| node.operator == Operator::Flatten).unwrap_or_default();
    match id.index().checked_sub(flatten + 1) {
        Some(index) => format!("classifier.{index}"),
        None if id.index() == flatten => "flatten".to_owned(),
        // The image is no module.
        None => format!("features.{}", id.index().saturating_sub(1)),
    }
}

/// The equivalent `PyTorch` module, which takes normalised images `[N, C, H, W]` and gives logits `[N, K]`, under the key
/// for a file's metadata:
///
/// - `pytorch`: an expression of Python with `nn` for `torch.nn` and `OrderedDict` for `collections.OrderedDict`;
/// - `pytorch_module`: a script of Python, after which `Network()` is the module.
pub fn module_in_pytorch(network: &Exported) -> (&'static str, String) {
    if is_sequential(network) { ("pytorch", sequential(network)) } else { ("pytorch_module", class(network)) }
}

fn sequential(network: &Exported) -> String {
    let part = |prefix: &str| {
        let layers = network.graph.iter().filter(|(id, node)| {
            node.operator != Operator::Image && module_name(network, *id).starts_with(prefix)
        });
        layers.filter_map(|(_, node)| module(network, node)).collect::<Vec<_>>().join(", ")
    };
    format!(
        "nn.Sequential(OrderedDict(features=nn.Sequential({}), flatten=nn.Flatten(), \
         classifier=nn.Sequential({})))",
        part("features"),
        part("classifier")
    )
}

/// Begins the script: modules and parameters are placed under paths, which `state_dict` then begins with.
const SCRIPT: &str = "\
import torch
from torch import nn


class Network(nn.Module):
    def place(self, path, thing):
        *parents, name = path.split(\".\")
        module = self
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, nn.Module())
            module = module._modules[parent]
        if isinstance(thing, nn.Parameter):
            module.register_parameter(name, thing)
        else:
            module.add_module(name, thing)

    @staticmethod
    def attend(x, heads):
        x = x.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        scores = x[0] @ x[1].transpose(2, 3) / x.shape[4] ** 0.5
        return (torch.softmax(scores, 3) @ x[2]).transpose(1, 2).flatten(2)

    def __init__(self):
        super().__init__()
";

fn class(network: &Exported) -> String {
    let mut made = String::new();
    let mut done = String::from("    def forward(self, x0):\n        at = self.get_submodule\n");
    for (id, node) in network.graph.iter() {
        let y = id.index();
        if node.operator == Operator::Image {
            continue;
        }
        match module(network, node) {
            Some(module) if !node.tensors.is_empty() => {
                let _ = writeln!(made, "        self.place(\"{}\", {module})", node.name);
            }
            _ => {}
        }
        if node.operator == Operator::Tokens {
            for spec in &node.tensors {
                let sizes = spec.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let _ = writeln!(
                    made,
                    "        self.place(\"{}\", nn.Parameter(torch.empty({sizes})))",
                    spec.name
                );
            }
        }
        let _ = writeln!(done, "        x{y} = {}", expression(network, node));
    }
    let _ = writeln!(done, "        return x{}", network.graph.head().index());
    format!("{SCRIPT}{made}\n{done}")
}

/// What a layer makes of its inputs, in Python.
fn expression(network: &Exported, node: &Node) -> String {
    let inputs: Vec<String> = node.inputs.iter().map(|input| format!("x{}", input.index())).collect();
    let x = inputs.first().map_or("x0", String::as_str);
    let all = inputs.join(", ");
    let placed = |x: &str| format!("at(\"{}\")({x})", node.name);
    match &node.operator {
        Operator::Convolution(convolution) if !is_symmetric(convolution) => {
            let [top, left, bottom, right] = convolution.padding;
            placed(&format!("nn.functional.pad({x}, ({left}, {right}, {top}, {bottom}))"))
        }
        Operator::Convolution(_)
        | Operator::BatchNorm { .. }
        | Operator::LayerNorm { .. }
        | Operator::Dense { .. } => placed(x),
        Operator::Recurrent { .. } => format!("{}[0]", placed(x)),
        Operator::Add => inputs.join(" + "),
        Operator::Concatenate => format!("torch.cat([{all}], 1)"),
        Operator::Scale => format!("{}[:, :, None, None]", inputs.join(" * ")),
        Operator::Flatten => format!("{x}.flatten(1)"),
        Operator::Rows => format!("{x}.transpose(1, 2).flatten(2)"),
        Operator::LastStep => format!("{x}[:, -1]"),
        Operator::FirstToken => format!("{x}[:, 0]"),
        Operator::Tokens => {
            let name = &node.name;
            format!(
                "torch.cat([at(\"{name}\").class_token.expand(len({x}), -1, -1), {x}.flatten(2).transpose(1, 2)], 1) + \
                 at(\"{name}\").positions"
            )
        }
        Operator::Attention { heads } => format!("self.attend({x}, {heads})"),
        Operator::Thin { stride, channels } => {
            let before = channels / 2;
            format!(
                "nn.functional.pad({x}[:, :, ::{stride}, ::{stride}], (0, 0, 0, 0, {before}, {}))",
                channels - before
            )
        }
        Operator::Image | Operator::Dropout { .. } => x.to_owned(),
        Operator::Activation(_) | Operator::Pool(_) | Operator::Average { .. } => {
            module(network, node).map_or_else(|| x.to_owned(), |module| format!("{module}({x})"))
        }
    }
}

/// The module of `torch.nn` that a layer is.
fn module(network: &Exported, node: &Node) -> Option<String> {
    let input = network.input_of(node);
    Some(match &node.operator {
        Operator::Convolution(convolution) => {
            let Convolution { channels, kernel, stride, padding, dilation, groups, bias } = *convolution;
            let pair = |sizes: [usize; 2]| match sizes {
                [a, b] if a == b => a.to_string(),
                [a, b] => format!("({a}, {b})"),
            };
            let padding = if is_symmetric(convolution) { [padding[0], padding[1]] } else { [0, 0] };
            let bias = if bias { "True" } else { "False" };
            let mut more = String::new();
            if dilation != [1; 2] {
                let _ = write!(more, ", dilation={}", pair(dilation));
            }
            if groups != 1 {
                let _ = write!(more, ", groups={groups}");
            }
            format!(
                "nn.Conv2d({}, {channels}, {}, stride={}, padding={}{more}, bias={bias})",
                maps(input)[0],
                pair(kernel),
                pair(stride),
                pair(padding)
            )
        }
        Operator::BatchNorm { epsilon } => format!("nn.BatchNorm2d({}, eps={epsilon:e})", maps(input)[0]),
        Operator::LayerNorm { epsilon } => {
            format!("nn.LayerNorm({}, eps={epsilon:e})", steps(input)[1])
        }
        Operator::Activation(activation) => match activation {
            Activation::Relu => "nn.ReLU()",
            Activation::LeakyRelu => "nn.LeakyReLU(0.01)",
            Activation::Gelu => "nn.GELU()",
            Activation::Silu => "nn.SiLU()",
            Activation::Sigmoid => "nn.Sigmoid()",
            Activation::Tanh => "nn.Tanh()",
        }
        .to_owned(),
        Operator::Pool(pool) => {
            let PoolConfig { kind, kernel, padding, .. } = *pool;
            let name = match kind {
                PoolKind::Max => "MaxPool2d",
                PoolKind::Average => "AvgPool2d",
            };
            format!("nn.{name}({kernel}, stride={}, padding={padding})", pool.stride())
        }
        Operator::Average { side } => format!("nn.AdaptiveAvgPool2d({side})"),
        Operator::Flatten => "nn.Flatten()".to_owned(),
        Operator::Dense { outputs } => format!("nn.Linear({}, {outputs})", steps(input)[1]),
        Operator::Recurrent { cell, hidden } => {
            let name = match cell {
                Cell::Lstm => "LSTM",
                Cell::Gru => "GRU",
            };
            format!("nn.{name}({}, {hidden}, batch_first=True)", steps(input)[1])
        }
        _ => return None,
    })
}
