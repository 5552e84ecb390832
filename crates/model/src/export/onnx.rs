//! ONNX, written from the graph of layers.
//!
//! Burn has an exporter of its own (`burn-onnx`), which records a forward pass. It is not used: it needs Burn built
//! with its recording backend, doubles the time of a build, names neither inputs nor outputs, writes no metadata and
//! no integers, and knows no exact GELU. The few messages of the format that a network needs are written here.

use super::protobuf::Message;
use super::{
    ExportError, Exported, QuantizedTensor, WeightTensor, answers,
    layers::{cell, maps, steps},
};
use crate::{
    Activation, Cell, Convolution, Metadata, Node, NodeId, Operator, PoolConfig, PoolKind, Task,
    weights::record::little_endian,
};

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
    Int64 = 7,
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
struct Writer {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
}

impl Writer {
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

    fn integers(&mut self, name: &str, values: &[i64]) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, DataType::Int64, &[values.len()], &bytes);
    }

    /// `x` in another shape; one size may be -1, which is what is left.
    fn reshape(&mut self, x: &str, sizes: &[i64], y: &str) {
        let shape = format!("{y}:shape");
        self.integers(&shape, sizes);
        self.node("Reshape", &[x, &shape], y, &[]);
    }

    fn transpose(&mut self, x: &str, axes: &[u64], y: &str) {
        self.node("Transpose", &[x], y, &[Attribute::Integers("perm", axes.to_vec())]);
    }

    /// One place of an axis, which then is gone.
    fn choose(&mut self, x: &str, axis: u64, place: usize, y: &str) {
        let index = format!("{y}:place");
        self.initializer(&index, DataType::Int64, &[], &(place as i64).to_le_bytes());
        self.node("Gather", &[x, &index], y, &[Attribute::Integer("axis", axis)]);
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
/// the model's temperature (the sigmoid of each for a multi-label model), `probabilities [batch, K]`; the batch is dynamic. The metadata (`metadata_props`) say how
/// images are normalised, what the classes are, the temperature, and what of Kiln's rejection is missing.
///
/// Int8 weights go through `DequantizeLinear`.
///
/// # Errors
/// [`ExportError::Container`] where a layer lacks its weights.
pub fn onnx(network: &Exported, metadata: &Metadata) -> Result<Vec<u8>, ExportError> {
    let mut graph = Writer::default();
    let names = names(network);
    for (id, node) in network.graph.iter() {
        let inputs: Vec<&str> = node.inputs.iter().map(|input| names[input.index()].as_str()).collect();
        if let [x, ..] = inputs[..] {
            layer(&mut graph, network, node, x, &inputs, &names[id.index()]).ok_or_else(|| {
                ExportError::Container { format: "onnx", reason: format!("{} has no weights", node.name) }
            })?;
        }
    }
    let scaled = "logits_by_temperature";
    graph.floats("temperature", &[metadata.temperature()]);
    graph.node("Div", &[OUTPUT, "temperature"], scaled, &[]);
    match metadata.task {
        Task::Classify => graph.node("Softmax", &[scaled], PROBABILITIES, &[Attribute::Integer("axis", 1)]),
        Task::MultiLabel { .. } => graph.node("Sigmoid", &[scaled], PROBABILITIES, &[]),
    }

    let input = network.graph.input();
    let graph = Message::default()
        .messages(1, graph.nodes)
        .text(2, metadata.network.name())
        .messages(5, graph.initializers)
        .message(11, &Writer::value(INPUT, &[input.channels, input.height, input.width]))
        .message(12, &Writer::value(OUTPUT, &[metadata.classes.len()]))
        .message(12, &Writer::value(PROBABILITIES, &[metadata.classes.len()]));
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

/// The names of the layers' outputs.
fn names(network: &Exported) -> Vec<String> {
    let head = network.graph.head();
    let name = |(id, node): (NodeId, &Node)| match (id, node.name.as_str()) {
        (NodeId(0), _) => INPUT.to_owned(),
        (id, _) if id == head => OUTPUT.to_owned(),
        (id, "") => format!("layer{}", id.index()),
        (_, name) => name.to_owned(),
    };
    network.graph.iter().map(name).collect()
}

/// Sizes as ONNX counts them.
fn sizes(sizes: &[usize]) -> Vec<u64> {
    sizes.iter().map(|&size| size as u64).collect()
}

/// Adds a layer from `x`, its first input, to `y`; what flows between layers is `[N, ...]` with the axes of the graph.
fn layer(
    graph: &mut Writer,
    network: &Exported,
    node: &Node,
    x: &str,
    inputs: &[&str],
    y: &str,
) -> Option<()> {
    let input = network.input_of(node);
    let part = |part: &str| format!("{y}:{part}");
    let name = |part: &str| format!("{}.{part}", node.name);
    match &node.operator {
        Operator::Image => {}
        // The caller has taken it out; as in evaluation it does nothing.
        Operator::Dropout { .. } => graph.node("Identity", &[x], y, &[]),
        Operator::Convolution(convolution) => {
            let Convolution { kernel, stride, padding, dilation, groups, .. } = convolution;
            let (filters, offsets) = (name("weight"), name("bias"));
            graph.weight(&filters, network.tensor(node, "weight")?);
            let mut inputs = vec![x, &filters];
            if convolution.bias {
                graph.floats(&offsets, &network.floats(node, "bias"));
                inputs.push(&offsets);
            }
            let attributes = [
                Attribute::Integers("kernel_shape", sizes(kernel)),
                Attribute::Integers("strides", sizes(stride)),
                Attribute::Integers("pads", sizes(padding)),
                Attribute::Integers("dilations", sizes(dilation)),
                Attribute::Integer("group", *groups as u64),
            ];
            graph.node("Conv", &inputs, y, &attributes);
        }
        Operator::BatchNorm { epsilon } => {
            let parts = ["gamma", "beta", "running_mean", "running_var"].map(|part| {
                let name = name(part);
                graph.floats(&name, &network.floats(node, part));
                name
            });
            let inputs: Vec<&str> = std::iter::once(x).chain(parts.iter().map(String::as_str)).collect();
            graph.node("BatchNormalization", &inputs, y, &[Attribute::Float("epsilon", *epsilon as f32)]);
        }
        Operator::LayerNorm { epsilon } => {
            let parts = ["gamma", "beta"].map(|part| {
                let name = name(part);
                graph.floats(&name, &network.floats(node, part));
                name
            });
            let attributes = [
                Attribute::Integer("axis", input.len() as u64),
                Attribute::Float("epsilon", *epsilon as f32),
            ];
            graph.node("LayerNormalization", &[x, &parts[0], &parts[1]], y, &attributes);
        }
        Operator::Activation(activation) => activate(graph, *activation, x, y, y),
        Operator::Pool(pool) => {
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
            graph.node(operator, &[x], y, &attributes);
        }
        Operator::Average { side: 1 } => graph.node("GlobalAveragePool", &[x], y, &[]),
        Operator::Average { side } => average(graph, maps(input), *side, x, y),
        Operator::Dense { outputs } => {
            let (matrix, offsets) = (name("weight"), name("bias"));
            // [O, I], as PyTorch's exporter has it. ONNX Runtime 1.31 would take the other layout, in int8,
            // for an invitation to round the inputs to 8 bits as well.
            graph.weight(&matrix, &network.tensor(node, "weight")?.clone().transposed());
            graph.floats(&offsets, &network.floats(node, "bias"));
            let gemm = |graph: &mut Writer, x: &str, y: &str| {
                graph.node("Gemm", &[x, &matrix, &offsets], y, &[Attribute::Integer("transB", 1)]);
            };
            match *input {
                [steps, features] => {
                    graph.reshape(x, &[-1, features as i64], &part("rows"));
                    gemm(graph, &part("rows"), &part("products"));
                    graph.reshape(&part("products"), &[-1, steps as i64, *outputs as i64], y);
                }
                _ => gemm(graph, x, y),
            }
        }
        Operator::Add => graph.node("Add", inputs, y, &[]),
        Operator::Concatenate => graph.node("Concat", inputs, y, &[Attribute::Integer("axis", 1)]),
        Operator::Scale => {
            let factors = part("factors");
            graph.reshape(inputs.get(1)?, &[-1, input[0] as i64, 1, 1], &factors);
            graph.node("Mul", &[x, &factors], y, &[]);
        }
        Operator::Flatten => graph.node("Flatten", &[x], y, &[Attribute::Integer("axis", 1)]),
        Operator::Rows => {
            let [steps, features] = steps(&node.output);
            graph.transpose(x, &[0, 2, 1, 3], &part("rows"));
            graph.reshape(&part("rows"), &[-1, steps as i64, features as i64], y);
        }
        Operator::Recurrent { cell, hidden } => recurrent(graph, network, node, *cell, *hidden, x, y)?,
        Operator::LastStep => graph.choose(x, 1, steps(input)[0].saturating_sub(1), y),
        Operator::FirstToken => graph.choose(x, 1, 0, y),
        Operator::Tokens => tokens(graph, network, node, x, y)?,
        Operator::Attention { heads } => attention(graph, steps(&node.output), *heads, x, y),
        Operator::Thin { stride, channels } => {
            let attributes = [
                Attribute::Integers("kernel_shape", vec![1; 2]),
                Attribute::Integers("strides", vec![*stride as u64; 2]),
            ];
            graph.node("MaxPool", &[x], &part("places"), &attributes);
            let before = (channels / 2) as i64;
            graph.integers(&part("channels"), &[0, before, 0, 0, 0, *channels as i64 - before, 0, 0]);
            graph.node("Pad", &[&part("places"), &part("channels")], y, &[]);
        }
    }
    Some(())
}

/// Means over cells that may overlap, or repeat a place: the product with a matrix for the rows and one for the columns.
fn average(graph: &mut Writer, [_, height, width]: [usize; 3], side: usize, x: &str, y: &str) {
    if [height, width] == [side; 2] {
        return graph.node("Identity", &[x], y, &[]);
    }
    // [side, length]
    let matrix = |length: usize| {
        let mut weights = vec![0f32; side * length];
        for index in 0..side {
            let (start, end) = cell(index, length, side);
            weights[index * length + start..index * length + end].fill(1.0 / (end - start) as f32);
        }
        WeightTensor::Float { shape: vec![side, length], values: weights }
    };
    let [rows, columns, means] = ["rows", "columns", "means"].map(|part| format!("{y}:{part}"));
    graph.weight(&rows, &matrix(height));
    graph.weight(&columns, &matrix(width).transposed());
    graph.node("MatMul", &[&rows, x], &means, &[]);
    graph.node("MatMul", &[&means, &columns], y, &[]);
}

fn tokens(graph: &mut Writer, network: &Exported, node: &Node, x: &str, y: &str) -> Option<()> {
    let [tokens, width] = steps(&node.output);
    let part = |part: &str| format!("{y}:{part}");
    let [class_token, positions] = ["class_token", "positions"].map(|part| format!("{}.{part}", node.name));
    graph.weight(&class_token, network.tensor(node, "class_token")?);
    graph.weight(&positions, network.tensor(node, "positions")?);
    graph.reshape(x, &[-1, width as i64, tokens as i64 - 1], &part("columns"));
    graph.transpose(&part("columns"), &[0, 2, 1], &part("patches"));
    // The class token once for every image.
    let first = [Attribute::Integer("start", 0), Attribute::Integer("end", 1)];
    graph.node("Shape", &[x], &part("count"), &first);
    graph.integers(&part("sizes"), &[1, width as i64]);
    let axis = |axis| [Attribute::Integer("axis", axis)];
    graph.node("Concat", &[&part("count"), &part("sizes")], &part("shape"), &axis(0));
    graph.node("Expand", &[&class_token, &part("shape")], &part("first"), &[]);
    graph.node("Concat", &[&part("first"), &part("patches")], &part("all"), &axis(1));
    graph.node("Add", &[&part("all"), &positions], y, &[]);
    Some(())
}

fn attention(graph: &mut Writer, [tokens, width]: [usize; 2], heads: usize, x: &str, y: &str) {
    let part = |part: &str| format!("{y}:{part}");
    let features = width / heads;
    graph.reshape(x, &[-1, tokens as i64, 3, heads as i64, features as i64], &part("parts"));
    // [N, heads, T, F] each
    for (index, name) in ["queries", "keys", "values"].into_iter().enumerate() {
        graph.choose(&part("parts"), 2, index, &part(&format!("{name}_of_tokens")));
        let axes: &[u64] = if name == "keys" { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] };
        graph.transpose(&part(&format!("{name}_of_tokens")), axes, &part(name));
    }
    graph.node("MatMul", &[&part("queries"), &part("keys")], &part("products"), &[]);
    graph.floats(&part("root"), &[(features as f64).sqrt() as f32]);
    graph.node("Div", &[&part("products"), &part("root")], &part("scores"), &[]);
    graph.node("Softmax", &[&part("scores")], &part("weights"), &[Attribute::Integer("axis", 3)]);
    graph.node("MatMul", &[&part("weights"), &part("values")], &part("mixed"), &[]);
    graph.transpose(&part("mixed"), &[0, 2, 1, 3], &part("tokens"));
    graph.reshape(&part("tokens"), &[-1, tokens as i64, width as i64], y);
}

/// ONNX has steps before images, and the gates in another order.
fn recurrent(
    graph: &mut Writer,
    network: &Exported,
    node: &Node,
    cell: Cell,
    hidden: usize,
    x: &str,
    y: &str,
) -> Option<()> {
    let part = |part: &str| format!("{y}:{part}");
    // Input, output, forget, cell; update, reset, new.
    let (operator, order): (_, &[usize]) = match cell {
        Cell::Lstm => ("LSTM", &[0, 3, 1, 2]),
        Cell::Gru => ("GRU", &[1, 0, 2]),
    };
    let places: Vec<usize> = order.iter().flat_map(|gate| gate * hidden..(gate + 1) * hidden).collect();
    graph.integers(&part("first_axis"), &[0]);
    let mut biases = Vec::new();
    for side in ["input", "state"] {
        let (rows, matrix) = (part(&format!("{side}_rows")), part(side));
        let weight = network.tensor(node, &format!("{side}.weight"))?.clone().transposed();
        graph.weight(&rows, &weight.with_rows(&places));
        graph.node("Unsqueeze", &[&rows, &part("first_axis")], &matrix, &[]);
        let bias = network.floats(node, &format!("{side}.bias"));
        biases.extend(places.iter().map(|&place| bias[place]));
    }
    let bias = WeightTensor::Float { shape: vec![1, biases.len()], values: biases };
    graph.weight(&part("bias"), &bias);
    graph.transpose(x, &[1, 0, 2], &part("steps"));
    let mut attributes = vec![Attribute::Integer("hidden_size", hidden as u64)];
    if cell == Cell::Gru {
        attributes.push(Attribute::Integer("linear_before_reset", 1));
    }
    let inputs = [part("steps"), part("input"), part("state"), part("bias")];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    graph.node(operator, &inputs, &part("states"), &attributes); // [T, 1, N, H]
    graph.choose(&part("states"), 1, 0, &part("forward"));
    graph.transpose(&part("forward"), &[1, 0, 2], y);
    Some(())
}

/// Functions that ONNX has only since later versions are put together.
fn activate(graph: &mut Writer, activation: Activation, x: &str, name: &str, y: &str) {
    match activation {
        Activation::Relu => graph.node("Relu", &[x], y, &[]),
        Activation::LeakyRelu => graph.node("LeakyRelu", &[x], y, &[Attribute::Float("alpha", 0.01)]),
        Activation::Sigmoid => graph.node("Sigmoid", &[x], y, &[]),
        Activation::Tanh => graph.node("Tanh", &[x], y, &[]),
        Activation::Silu => {
            let gate = format!("{name}:gate");
            graph.node("Sigmoid", &[x], &gate, &[]);
            graph.node("Mul", &[x, &gate], y, &[]);
        }
        Activation::Gelu => {
            // x (1 + erf(x / sqrt 2)) / 2
            let [scale, one, half, scaled, erf, sum, product] =
                ["scale", "one", "half", "scaled", "erf", "sum", "product"]
                    .map(|part| format!("{name}:{part}"));
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
