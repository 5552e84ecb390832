//! ONNX, through Burn's own exporter.
//!
//! `burn-onnx` runs the network twice on a device that records, with two batch sizes, and writes down
//! what it recorded; so every network whose operators it knows can be exported, without a second
//! description of any. It does not name inputs and outputs, write metadata, or quantise: that is done
//! here, on the messages of the format.

use burn::tensor::{Device, Tensor};
use burn_onnx::export::{AxisSpec, InputSpec, OnnxExporter};
use model::export::{ExportError, QuantizedTensor, WeightTensor};
use model::{Metadata, Network};
use onnx_ir::{AttributeProto, AttributeType, GraphProto, Message, ModelProto, NodeProto, TensorProto};

/// Names in the graph.
const INPUT: &str = "images";
const OUTPUT: &str = "logits";
const BATCH: &str = "batch";

/// ONNX's numbers of types (`TensorProto.DataType`).
const FLOAT: i32 = 1;
const INT8: i32 = 3;

/// The network as an ONNX model, from normalised `images [batch, C, H, W]` to `logits [batch, K]`; the
/// batch is dynamic. The metadata say how images are normalised.
///
/// The weights of `tensors` that are int8 are stored so and go through `DequantizeLinear`; `network`
/// must hold the same values as floats.
pub(super) fn onnx(
    network: &Network,
    metadata: &Metadata,
    tensors: &[(String, WeightTensor)],
) -> Result<Vec<u8>, ExportError> {
    let refused = |reason: &dyn std::fmt::Display| ExportError::Unsupported {
        network: metadata.network.name().to_owned(),
        format: "onnx",
        reason: format!("{reason} (in Burn's exporter, which knows the common operators only)"),
    };
    let failed = |reason: &dyn std::fmt::Display| ExportError::Container {
        format: "onnx",
        reason: reason.to_string(),
    };
    let input = metadata.preprocessing.input;
    let images = |batch: usize| {
        Tensor::<4>::zeros([batch, input.channels, input.height, input.width], &Device::flex())
    };
    let axes =
        [InputSpec::new([AxisSpec::dynamic(BATCH), AxisSpec::Static, AxisSpec::Static, AxisSpec::Static])];
    let exported = OnnxExporter::new()
        .export_dynamic(network, images(2), images(3), &axes, |network: &Network, images: Tensor<4>| {
            network.forward(images)
        })
        .map_err(|error| refused(&error))?;

    let mut model = ModelProto::parse_from_bytes(exported.as_bytes()).map_err(|error| failed(&error))?;
    let graph = model.graph.mut_or_insert_default();
    let ([input], [output]) = (&mut graph.input[..], &mut graph.output[..]) else {
        return Err(failed(&"the recorded network has more than one input or output"));
    };
    let mut names = vec![(input.name.clone(), INPUT.to_owned()), (output.name.clone(), OUTPUT.to_owned())];
    let weights = graph.initializer.iter().map(|weight| weight.name.clone());
    names.extend(weights.map(|name| (name.clone(), model::tensor_name(&name).to_owned())));
    rename(graph, &names);
    graph.name = metadata.network.name().to_owned();
    for (name, tensor) in tensors {
        if let WeightTensor::Int8(tensor) = tensor {
            quantize(graph, name, tensor).map_err(|reason| failed(&reason))?;
        }
    }
    model.producer_name = "kiln".to_owned();
    model.producer_version.clone_from(&metadata.kiln_version);
    for (key, value) in properties(metadata) {
        model.metadata_props.push(Default::default());
        if let Some(entry) = model.metadata_props.last_mut() {
            entry.key = key.to_owned();
            entry.value = value;
        }
    }
    model.write_to_bytes().map_err(|error| failed(&error))
}

/// What a program must know to make `images` from pixels, and a class from `logits`.
fn properties(metadata: &Metadata) -> [(&'static str, String); 8] {
    let preprocessing = &metadata.preprocessing;
    let json = |value: serde_json::Value| value.to_string();
    [
        (
            "normalisation",
            "images = (pixels / 255 - mean) / std, for each channel; pixels [N, C, H, W], 0 to 255".into(),
        ),
        ("mean", json(preprocessing.mean.clone().into())),
        ("std", json(preprocessing.std.clone().into())),
        ("fit", serde_json::to_string(&preprocessing.fit).unwrap_or_default()),
        ("classes", json(metadata.classes.clone().into())),
        ("probabilities", "softmax of logits over the last axis".into()),
        ("weights_sha256", metadata.weights_sha256.clone()),
        ("kiln_version", metadata.kiln_version.clone()),
    ]
}

/// Gives values other names wherever they occur.
fn rename(graph: &mut GraphProto, names: &[(String, String)]) {
    let rename = |name: &mut String| {
        if let Some((_, new)) = names.iter().find(|(old, _)| old == name) {
            name.clone_from(new);
        }
    };
    graph.input.iter_mut().chain(&mut graph.output).for_each(|value| rename(&mut value.name));
    graph.initializer.iter_mut().for_each(|tensor| rename(&mut tensor.name));
    for node in &mut graph.node {
        node.input.iter_mut().chain(&mut node.output).for_each(rename);
    }
}

/// Stores a weight as integers, and puts the node in front that makes floats of them.
fn quantize(graph: &mut GraphProto, name: &str, tensor: &QuantizedTensor) -> Result<(), String> {
    let stored = graph
        .initializer
        .iter_mut()
        .find(|stored| stored.name == name)
        .ok_or_else(|| format!("the recorded network has no weight `{name}`"))?;
    if !stored.dims.iter().map(|&size| size as usize).eq(tensor.shape.iter().copied()) {
        return Err(format!(
            "the weight `{name}` was recorded as {:?}, expected {:?}",
            stored.dims, tensor.shape
        ));
    }
    let [integers, scales, zeros] = ["int8", "scale", "zero_point"].map(|part| format!("{name}_{part}"));
    let bytes = |values: &mut dyn Iterator<Item = i8>| values.flat_map(i8::to_le_bytes).collect::<Vec<u8>>();
    *stored = initializer(&integers, INT8, &tensor.shape, bytes(&mut tensor.values.iter().copied()));
    let outputs = [tensor.scales.len()];
    let scale_bytes = tensor.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    graph.initializer.push(initializer(&scales, FLOAT, &outputs, scale_bytes));
    graph.initializer.push(initializer(
        &zeros,
        INT8,
        &outputs,
        bytes(&mut std::iter::repeat_n(0, outputs[0])),
    ));
    let node = NodeProto {
        name: format!("{name}_dequantize"),
        op_type: "DequantizeLinear".to_owned(),
        input: vec![integers, scales, zeros],
        output: vec![name.to_owned()],
        attribute: vec![AttributeProto {
            name: "axis".to_owned(),
            type_: AttributeType::INT.into(),
            i: tensor.axis as i64,
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    };
    graph.node.insert(0, node);
    Ok(())
}

fn initializer(name: &str, data_type: i32, shape: &[usize], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type,
        dims: shape.iter().map(|&size| size as i64).collect(),
        raw_data: bytes.into(),
        ..TensorProto::default()
    }
}
