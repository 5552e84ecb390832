"""Reads exported models with PyTorch, ONNX's checker, ONNX Runtime and NumPy, and compares their logits with ours.

    pip install numpy torch safetensors onnx onnxruntime
    python tests/peers/export_check.py FOLDER...

`just export-peers` does both. A FOLDER holds, as tests/export.rs writes them, images.f32 (normalised, [N, C, H, W]),
logits.f32 and probabilities.f32 ([N, K]) and model.safetensors, model.onnx and model.npz; and perhaps the same with `_int8`. Prints the
largest difference of every file; exits 1 when one is above 1e-5 (absolute up to a magnitude of 1, relative above).
"""

import json
import sys
from collections import OrderedDict
from pathlib import Path

import numpy
import onnx
import onnxruntime
import torch
from safetensors import safe_open
from torch import nn

TOLERANCE = 1e-5
faults = []


def compare(what, found, expected):
    error = float(numpy.max(numpy.abs(found - expected) / numpy.maximum(numpy.abs(expected), 1)))
    print(f"{what}: largest difference {error:.1e}")
    if not error <= TOLERANCE:
        faults.append(what)


def probabilities(logits, about):
    """What a file says of its logits, done."""
    assert about["probabilities"].startswith("softmax(logits / temperature)")
    assert "--reject-below" in about["rejection"]
    scaled = logits.astype("f8") / float(about["temperature"])
    exponentials = numpy.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def check_safetensors(path, images, logits, expected):
    with safe_open(path, "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    if "pytorch" in about:
        module = eval(about["pytorch"], {"nn": nn, "OrderedDict": OrderedDict})
    else:
        scope = {}
        exec(about["pytorch_module"], scope)
        module = scope["Network"]()
    for name in [name for name in tensors if name.endswith("_scale")]:
        scale = tensors.pop(name)
        weight = tensors[name.removesuffix("_scale")]
        assert weight.dtype == torch.int8
        tensors[name.removesuffix("_scale")] = weight.float() * scale.reshape(-1, *[1] * (weight.dim() - 1))
    module.load_state_dict(tensors, strict=True)
    module.eval()
    assert json.loads(about["input"]) == list(images.shape[1:])
    assert len(json.loads(about["classes"])) == logits.shape[1]
    with torch.no_grad():
        found = module(torch.from_numpy(images)).numpy()
    compare(path, found, logits)
    compare(f"{path} (probabilities)", probabilities(found, about), expected)
    return tensors


def check_onnx(path, images, logits, expected):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    (batch, *sizes) = model.graph.input[0].type.tensor_type.shape.dim
    assert batch.dim_param == "batch" and [size.dim_value for size in sizes] == list(images.shape[1:])
    assert [output.name for output in model.graph.output] == ["logits", "probabilities"]
    for output in model.graph.output:
        assert output.type.tensor_type.shape.dim[0].dim_param == "batch"
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert len(json.loads(about["mean"])) == len(json.loads(about["std"])) == images.shape[1]
    assert len(json.loads(about["classes"])) == logits.shape[1]
    assert "pixels / 255" in about["normalisation"]
    quantized = sum(node.op_type == "DequantizeLinear" for node in model.graph.node)
    assert (quantized > 0) == path.stem.endswith("_int8")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in (1, 3, len(images)):
        (found,) = session.run(["logits"], {"images": images[:size]})
        compare(f"{path} (batch {size})", found, logits[:size])
    (found,) = session.run(["probabilities"], {"images": images})
    compare(f"{path} (probabilities)", found, expected)
    compare(f"{path} (softmax of its logits)", probabilities(logits, about), expected)


def check_npz(path, tensors, logits, expected):
    """The same tensors under other names, matrices transposed."""
    arrays = dict(numpy.load(path))
    about = json.loads(str(arrays.pop("kiln")))
    assert about["classes"]
    compare(f"{path} (probabilities)", probabilities(logits, about), expected)
    scales = {name: arrays.pop(name) for name in list(arrays) if name.endswith("_scale")}
    ours = []
    for name, array in arrays.items():
        if name + "_scale" in scales:
            assert array.dtype == numpy.int8
            scale = scales[name + "_scale"]
            array = array * (scale.reshape(-1, 1, 1, 1) if array.ndim == 4 else scale)
        ours.append(array.T if array.ndim == 2 else array)
    digest = lambda array: (array.shape, float(array.astype("f8").sum()), array.astype("f4").tobytes())
    same = sorted(map(digest, ours)) == sorted(digest(tensor.numpy()) for tensor in tensors.values())
    print(f"{path}: {'the same' if same else 'other'} tensors as in safetensors")
    if not same:
        faults.append(path)


if len(sys.argv) < 2:
    sys.exit(__doc__)
for folder in map(Path, sys.argv[1:]):
    for kind in ("", "_int8"):
        if not (folder / f"model{kind}.safetensors").exists():
            continue
        logits = numpy.fromfile(folder / f"logits{kind}.f32", "<f4").reshape(16, -1)
        expected = numpy.fromfile(folder / f"probabilities{kind}.f32", "<f4").reshape(16, -1)
        with safe_open(folder / f"model{kind}.safetensors", "pt") as file:
            shape = json.loads(file.metadata()["input"])
        images = numpy.fromfile(folder / "images.f32", "<f4").reshape(16, *shape)
        tensors = check_safetensors(folder / f"model{kind}.safetensors", images, logits, expected)
        if (folder / f"model{kind}.onnx").exists():
            check_onnx(folder / f"model{kind}.onnx", images, logits, expected)
        check_npz(folder / f"model{kind}.npz", tensors, logits, expected)
if faults:
    sys.exit(f"differences above {TOLERANCE}: {', '.join(map(str, faults))}")
