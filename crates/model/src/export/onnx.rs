//! ONNX, written from the layers.
//!
//! Burn has an exporter of its own (`burn-onnx`), which records a forward pass. It is not used: it needs Burn built
//! with its recording backend, doubles the time of a build, names neither inputs nor outputs, writes no metadata and
//! no integers, and knows no exact GELU. The few messages of the format that a network needs are written here.

use super::protobuf::Message;
use super::{ExportError, Layer, QuantizedTensor, Sequence, WeightTensor, answers};
use crate::{Activation, Metadata, PoolConfig, PoolKind, record::little_endian};

/// Names in the graph.
const INPUT: &str = "images";
const OUTPUT: &str = "logits";
const PROBABILITIES: &str = "probabilities";
const BATCH: &str = "batch";

/// The version of the file format and that of the operators: what ONNX 1.13 (2022) and later read.
const IR_VERSION: u64 = 8;
const OPSET: u64 = 18;

/// `TensorProto.DataType`
#[derive(Clone, Copy)]
enum DataType {
    Float = 1,
    Int8 = 3,
}

/// An attribute of a node (`AttributeProto`).
enum Attribute<'a> {
    Float(&'a str, f32),
    Integer(&'a str, u64),
    Integers(&'a str, Vec<u64>),
}

impl Attribute<'_> {
    fn message(&self) -> Message {
        const KIND: u64 = 20;
        match self {
            Self::Float(name, value) => Message::default().text(1, name).float(2, *value).integer(KIND, 1),
            Self::Integer(name, value) => {
                Message::default().text(1, name).integer(3, *value).integer(KIND, 2)
            }
            Self::Integers(name, values) => {
                let named = Message::default().text(1, name);
                values.iter().fold(named, |message, &value| message.integer(8, value)).integer(KIND, 7)
            }
        }
    }
}

/// A graph being written (`GraphProto`).
#[derive(Default)]
struct Graph {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
}

impl Graph {
    fn node(&mut self, operator: &str, inputs: &[&str], output: &str, attributes: &[Attribute]) {
        let inputs = inputs.iter().fold(Message::default(), |message, input| message.text(1, input));
        let node = inputs
            .text(2, output)
            .text(3, &format!("{output}_{operator}"))
            .text(4, operator)
            .messages(5, attributes.iter().map(Attribute::message));
        self.nodes.push(node);
    }

    fn initializer(&mut self, name: &str, kind: DataType, shape: &[usize], bytes: &[u8]) {
        let sizes = shape.iter().fold(Message::default(), |message, &size| message.integer(1, size as u64));
        self.initializers.push(sizes.integer(2, kind as u64).text(8, name).bytes(9, bytes));
    }

    fn floats(&mut self, name: &str, values: &[f32]) {
        self.initializer(name, DataType::Float, &[values.len()], &little_endian(values));
    }

    /// A weight under its name; integers with the node that makes floats of them.
    fn weight(&mut self, name: &str, tensor: &WeightTensor) {
        match tensor {
            WeightTensor::Float { shape, values } => {
                self.initializer(name, DataType::Float, shape, &little_endian(values));
            }
            WeightTensor::Int8(QuantizedTensor { shape, values, scales, axis }) => {
                let [integers, scale, zero] =
                    ["int8", "scale", "zero_point"].map(|part| format!("{name}_{part}"));
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                self.initializer(&integers, DataType::Int8, shape, &bytes);
                self.floats(&scale, scales);
                self.initializer(&zero, DataType::Int8, &[scales.len()], &vec![0; scales.len()]);
                let axis = [Attribute::Integer("axis", *axis as u64)];
                self.node("DequantizeLinear", &[&integers, &scale, &zero], name, &axis);
            }
        }
    }

    /// `[N, ...]` with a dynamic batch (`ValueInfoProto`).
    fn value(name: &str, sizes: &[usize]) -> Message {
        let batch = Message::default().text(2, BATCH);
        let sizes = sizes.iter().map(|&size| Message::default().integer(1, size as u64));
        let shape = Message::default().message(1, &batch).messages(1, sizes);
        let tensor = Message::default().integer(1, DataType::Float as u64).message(2, &shape);
        Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
    }
}

/// The network as an ONNX model, from normalised `images [batch, C, H, W]` to `logits [batch, K]` and their softmax at
/// the model's temperature, `probabilities [batch, K]`; the batch is dynamic. The metadata (`metadata_props`) say how
/// images are normalised, what the classes are, the temperature, and what of Kiln's rejection is missing.
///
/// Int8 weights go through `DequantizeLinear`.
///
/// # Errors
/// A sequence without layers.
pub fn onnx(sequence: &Sequence, metadata: &Metadata) -> Result<Vec<u8>, ExportError> {
    let mut graph = Graph::default();
    let Some(last) = sequence.layers.len().checked_sub(1) else {
        return Err(ExportError::Container { format: "onnx", reason: "no layers".into() });
    };
    let mut x = INPUT.to_owned();
    for (index, layer) in sequence.layers.iter().enumerate() {
        let name = format!("layer{index}");
        let y = if index == last { OUTPUT.to_owned() } else { name.clone() };
        match layer {
            Layer::Conv { weight, bias, stride, padding } => {
                let (filters, offsets) = (format!("{name}.weight"), format!("{name}.bias"));
                graph.weight(&filters, weight);
                let mut inputs = vec![x.as_str(), &filters];
                if let Some(bias) = bias {
                    graph.floats(&offsets, bias);
                    inputs.push(&offsets);
                }
                let attributes = [
                    Attribute::Integers("kernel_shape", vec![weight.shape()[2] as u64; 2]),
                    Attribute::Integers("strides", vec![*stride as u64; 2]),
                    Attribute::Integers("pads", vec![*padding as u64; 4]),
                ];
                graph.node("Conv", &inputs, &y, &attributes);
            }
            Layer::BatchNorm { gamma, beta, mean, variance, epsilon } => {
                let parts = [("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)];
                let names = parts.map(|(part, values)| {
                    let name = format!("{name}.{part}");
                    graph.floats(&name, values);
                    name
                });
                let inputs: Vec<&str> =
                    std::iter::once(x.as_str()).chain(names.iter().map(String::as_str)).collect();
                graph.node(
                    "BatchNormalization",
                    &inputs,
                    &y,
                    &[Attribute::Float("epsilon", *epsilon as f32)],
                );
            }
            Layer::Activation(activation) => activate(&mut graph, *activation, &x, &name, &y),
            Layer::Pool(pool) => {
                let PoolConfig { kind, kernel, padding, .. } = *pool;
                let mut attributes = vec![
                    Attribute::Integers("kernel_shape", vec![kernel as u64; 2]),
                    Attribute::Integers("strides", vec![pool.stride() as u64; 2]),
                    Attribute::Integers("pads", vec![padding as u64; 4]),
                ];
                let operator = match kind {
                    PoolKind::Max => "MaxPool",
                    PoolKind::Average => {
                        attributes.push(Attribute::Integer("count_include_pad", 1));
                        "AveragePool"
                    }
                };
                graph.node(operator, &[&x], &y, &attributes);
            }
            Layer::Flatten => graph.node("Flatten", &[&x], &y, &[Attribute::Integer("axis", 1)]),
            Layer::Linear { weight, bias } => {
                let (matrix, offsets) = (format!("{name}.weight"), format!("{name}.bias"));
                // [O, I], as PyTorch's exporter has it. ONNX Runtime 1.31 would take the other layout, in int8,
                // for an invitation to round the inputs to 8 bits as well.
                graph.weight(&matrix, &weight.clone().transposed());
                graph.floats(&offsets, bias);
                graph.node("Gemm", &[&x, &matrix, &offsets], &y, &[Attribute::Integer("transB", 1)]);
            }
        }
        x = y;
    }
    let scaled = "logits_by_temperature";
    graph.floats("temperature", &[metadata.temperature()]);
    graph.node("Div", &[OUTPUT, "temperature"], scaled, &[]);
    graph.node("Softmax", &[scaled], PROBABILITIES, &[Attribute::Integer("axis", 1)]);

    let input = sequence.input;
    let graph = Message::default()
        .messages(1, graph.nodes)
        .text(2, metadata.network.name())
        .messages(5, graph.initializers)
        .message(11, &Graph::value(INPUT, &[input.channels, input.height, input.width]))
        .message(12, &Graph::value(OUTPUT, &[metadata.classes.len()]))
        .message(12, &Graph::value(PROBABILITIES, &[metadata.classes.len()]));
    let properties = properties(metadata).into_iter().chain(answers(metadata));
    let properties = properties.map(|(key, value)| Message::default().text(1, key).text(2, &value));
    let model = Message::default()
        .integer(1, IR_VERSION)
        .text(2, "kiln")
        .text(3, &metadata.kiln_version)
        .message(7, &graph)
        .message(8, &Message::default().integer(2, OPSET))
        .messages(14, properties);
    Ok(model.into_bytes())
}

/// Functions that ONNX has only since later versions are put together.
fn activate(graph: &mut Graph, activation: Activation, x: &str, name: &str, y: &str) {
    match activation {
        Activation::Relu => graph.node("Relu", &[x], y, &[]),
        Activation::LeakyRelu => graph.node("LeakyRelu", &[x], y, &[Attribute::Float("alpha", 0.01)]),
        Activation::Sigmoid => graph.node("Sigmoid", &[x], y, &[]),
        Activation::Tanh => graph.node("Tanh", &[x], y, &[]),
        Activation::Silu => {
            let gate = format!("{name}.gate");
            graph.node("Sigmoid", &[x], &gate, &[]);
            graph.node("Mul", &[x, &gate], y, &[]);
        }
        Activation::Gelu => {
            // x (1 + erf(x / sqrt 2)) / 2
            let [scale, one, half, scaled, erf, sum, product] =
                ["scale", "one", "half", "scaled", "erf", "sum", "product"]
                    .map(|part| format!("{name}.{part}"));
            graph.floats(&scale, &[std::f32::consts::FRAC_1_SQRT_2]);
            graph.floats(&one, &[1.0]);
            graph.floats(&half, &[0.5]);
            graph.node("Mul", &[x, &scale], &scaled, &[]);
            graph.node("Erf", &[&scaled], &erf, &[]);
            graph.node("Add", &[&erf, &one], &sum, &[]);
            graph.node("Mul", &[x, &sum], &product, &[]);
            graph.node("Mul", &[&product, &half], y, &[]);
        }
    }
}

/// What a program must know to make `images` from pixels, and a class of an index.
fn properties(metadata: &Metadata) -> [(&'static str, String); 7] {
    let preprocessing = &metadata.preprocessing;
    let json = |value: serde_json::Value| value.to_string();
    [
        (
            "normalisation",
            "images = (pixels / 255 - mean) / std, for each channel; pixels [N, C, H, W], 0 to 255"
                .to_owned(),
        ),
        ("mean", json(preprocessing.mean.clone().into())),
        ("std", json(preprocessing.std.clone().into())),
        ("fit", serde_json::to_value(preprocessing.fit).unwrap_or_default().to_string()),
        ("classes", json(metadata.classes.clone().into())),
        ("weights_sha256", metadata.weights_sha256.clone()),
        ("kiln_version", metadata.kiln_version.clone()),
    ]
}
