"""ONNX Runtime on the CPU; inference only."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import harness
from nets import CLASSES, Net


def model(net: Net) -> tuple[bytes, int]:
    """The network as an ONNX file with weights drawn at random, and how many there are."""
    generator = np.random.default_rng(1)
    nodes, weights, last = [], [], "images"

    def parameters(name: str, shape: tuple[int, ...], outputs: int) -> list[str]:
        bound = 1 / np.sqrt(np.prod(shape) / outputs)
        for suffix, size in (("weight", shape), ("bias", (outputs,))):
            values = generator.uniform(-bound, bound, size).astype("float32")
            weights.append(numpy_helper.from_array(values, f"{name}.{suffix}"))
        return [f"{name}.weight", f"{name}.bias"]

    def add(kind: str, inputs: list[str], **attributes) -> None:
        nonlocal last
        nodes.append(helper.make_node(kind, [last, *inputs], [f"x{len(nodes)}"], **attributes))
        last = f"x{len(nodes) - 1}"

    activation = {"relu": "Relu", "tanh": "Tanh"}[net.activation]
    channels = net.input[0]
    for index, conv in enumerate(net.convolutions):
        shape = (conv.channels, channels, conv.kernel, conv.kernel)
        inputs = parameters(f"conv{index}", shape, conv.channels)
        add("Conv", inputs, kernel_shape=[conv.kernel] * 2, strides=[conv.stride] * 2, pads=[conv.padding] * 4)
        add(activation, [])
        if conv.pool:
            kind = {"max": "MaxPool", "average": "AveragePool"}[conv.pool]
            add(kind, [], kernel_shape=[2, 2], strides=[2, 2])
        channels = conv.channels
    add("Flatten", [])
    features = net.features()
    sizes = (*net.dense, CLASSES)
    for index, outputs in enumerate(sizes):
        add("Gemm", parameters(f"dense{index}", (features, outputs), outputs))
        if index + 1 < len(sizes):
            add(activation, [])
        features = outputs
    nodes[-1].output[0] = "logits"

    def value(name: str, shape: list) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes, "net", [value("images", ["N", *net.input])], [value("logits", ["N", CLASSES])], weights
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(file)
    return file.SerializeToString(), sum(int(np.prod(weight.dims)) for weight in weights)


def build(net: Net, work: str, batch_size: int) -> harness.Case:
    assert work == "inference", work
    file, parameters = model(net)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = harness.threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    pixels = harness.images(net)[0]
    mean, std = pixels.mean() / 255, pixels.std() / 255
    inputs = {"images": ((pixels[:batch_size].astype("float32") / 255 - mean) / std).astype("float32")}
    return harness.Case(parameters, lambda: session.run(None, inputs))


if __name__ == "__main__":
    harness.main(harness.Peer("ONNX Runtime", onnxruntime.__version__, build, works=("inference",)))
