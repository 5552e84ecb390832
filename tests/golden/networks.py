"""Logits of PyTorch and torchvision for the networks of crates/model.

    networks.py                   writes tests/golden/networks.json and tests/golden/weights/, which are
                                  committed. Weights there are a function of their place, which the test
                                  repeats, so that none of the large ones need to be.
    networks.py FOLDER NAME...    writes checkpoints with random weights for the named networks, at the
                                  size they were published for, and FOLDER/index.json with their logits.
    networks.py --list            names them.

Needs torch, torchvision, safetensors and numpy.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
IMAGES = 2


def noise(count, stream):
    """`count` values in [-0.5, 0.5): a 32-bit hash (lowbias32) of index and stream."""
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x9E3779B1)
        x += np.uint32((stream + 1) * 0x85EBCA77 % 2**32)
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x7FEB352D)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x846CA68B)
        x ^= x >> np.uint32(16)
    return (x >> np.uint32(8)).astype(np.float64) / 2**24 - 0.5


def weights(name, shape, stream):
    """Values that keep activations of a useful size through deep networks."""
    values = noise(math.prod(shape), stream)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + values
        # The last normalisation of a residual block, so that the sum does not grow with the depth.
        if ".bn2.weight" in name or ".bn3.weight" in name:
            values = values * 0.3
    elif len(shape) == 4:
        values = values * 2 * math.sqrt(6 / math.prod(shape[1:]))
    elif len(shape) == 2:
        values = values * 2 * math.sqrt(3 / shape[1])
    else:
        values = values * 0.2
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def images(shape):
    values = noise(IMAGES * math.prod(shape), 1_000_000) * 4
    return torch.from_numpy(values.astype(np.float32).reshape(IMAGES, *shape))


class Mlp(nn.Module):
    def __init__(self, inputs, hidden, classes):
        super().__init__()
        sizes = [inputs, *hidden]
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x):
        x = x.flatten(1)
        for block in self.blocks:
            x = F.relu(block(x))
        return self.head(x)


class Rnn(nn.Module):
    """The rows of the image, the channels of a row side by side."""

    def __init__(self, cell, inputs, hidden, layers, classes):
        super().__init__()
        self.rnn = cell(inputs, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x):
        states, _ = self.rnn(x.transpose(1, 2).flatten(2))
        return self.head(states[:, -1])


class Block(nn.Module):
    def __init__(self, inputs, outputs, kernel, padding=0, norm=False):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=not norm)
        if norm:
            self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) if hasattr(self, "norm") else x


class LeNet5(nn.Module):
    def __init__(self, channels, side, classes, activation, pool):
        super().__init__()
        padding = max(0, math.ceil((32 - side) / 2))
        self.activation, self.pool = activation, pool
        self.blocks = nn.ModuleList(
            [Block(channels, 6, 5, padding), Block(6, 16, 5), Block(16, 120, 5)]
        )
        last = ((side + 2 * padding - 4) // 2 - 4) // 2 - 4
        self.dense = nn.ModuleList([nn.Linear(120 * last**2, 84)])
        self.head = nn.Linear(84, classes)

    def forward(self, x):
        for index, block in enumerate(self.blocks):
            x = self.activation(block(x))
            if index < 2:
                x = self.pool(x, 2)
        return self.head(self.activation(self.dense[0](x.flatten(1))))


class Cnn(nn.Module):
    """Batch normalisation, another activation, and a dense layer."""

    def __init__(self, classes):
        super().__init__()
        self.blocks = nn.ModuleList([Block(3, 8, 3, norm=True), Block(8, 12, 3, norm=True)])
        self.dense = nn.ModuleList([nn.Linear(12 * 3 * 4, 20)])
        self.head = nn.Linear(20, classes)

    def forward(self, x):
        for block in self.blocks:
            x = F.max_pool2d(F.gelu(block(x)), 2)
        return self.head(F.gelu(self.dense[0](x.flatten(1))))


class CifarBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x = x[:, :, :: self.stride, :: self.stride]
        half = self.missing // 2
        return F.relu(y + F.pad(x, (0, 0, 0, 0, half, self.missing - half)))


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2, shortcuts of option A."""

    def __init__(self, depth, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for stage, outputs in enumerate([16, 32, 64], 1):
            blocks = []
            for index in range((depth - 2) // 6):
                blocks.append(CifarBlock(inputs, outputs, 2 if stage > 1 and index == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def small_head(model, inputs, dense, classes, dropout_first):
    """torchvision's classifier with smaller layers at the same places."""
    layers, sizes = [], [inputs, *dense]
    for a, b in zip(sizes, sizes[1:]):
        linear = [nn.Linear(a, b), nn.ReLU()]
        layers += [nn.Dropout(), *linear] if dropout_first else [*linear, nn.Dropout()]
    model.classifier = nn.Sequential(*layers, nn.Linear(sizes[-1], classes))
    return model


def small():
    """Name, configuration, input, classes, network."""
    models = torchvision.models
    vit = dict(patch=7, width=24, depth=2, heads=3, mlp=40)
    yield "mlp", dict(name="mlp", hidden=[30, 20]), (1, 9, 7), 5, Mlp(63, [30, 20], 5)
    for cell in ["lstm", "gru"]:
        config = dict(name="rnn", cell=cell, hidden=19, layers=2)
        torch_cell = nn.LSTM if cell == "lstm" else nn.GRU
        yield f"rnn-{cell}", config, (3, 11, 8), 4, Rnn(torch_cell, 24, 19, 2, 4)
    yield "lenet5", dict(name="lenet5"), (1, 28, 28), 10, LeNet5(1, 28, 10, torch.tanh, F.avg_pool2d)
    config = dict(name="lenet5", activation="relu", pool="max")
    yield "lenet5-relu-max", config, (3, 40, 40), 3, LeNet5(3, 40, 3, F.relu, F.max_pool2d)
    blocks = [dict(channels=c, pool=dict(kernel=2)) for c in (8, 12)]
    config = dict(name="cnn", batch_norm=True, activation="gelu", dense=[20], blocks=blocks)
    yield "cnn", config, (3, 19, 25), 6, Cnn(6)
    yield "resnet20", dict(name="resnet", depth=20), (3, 32, 32), 10, CifarResNet(20, 10)
    yield "resnet32-odd", dict(name="resnet", depth=32), (3, 21, 35), 4, CifarResNet(32, 4)
    yield "resnet18", dict(name="resnet", depth=18), (3, 64, 56), 7, models.resnet18(num_classes=7)
    yield "resnet50", dict(name="resnet", depth=50), (3, 48, 40), 7, models.resnet50(num_classes=7)
    for size in [(3, 63, 63), (3, 120, 131)]:
        config = dict(name="alexnet", dense=[40, 30])
        model = small_head(models.AlexNet(5), 256 * 36, [40, 30], 5, True)
        yield f"alexnet-{size[1]}", config, size, 5, model
    for batch_norm in [False, True]:
        config = dict(name="vgg", depth=11, batch_norm=batch_norm, dense=[40, 30])
        make = models.vgg11_bn if batch_norm else models.vgg11
        model = small_head(make(init_weights=False), 512 * 49, [40, 30], 5, False)
        yield "vgg11-bn" if batch_norm else "vgg11", config, (3, 64, 97), 5, model
    model = models.VisionTransformer(28, 7, 2, 3, 24, 40, num_classes=9)
    yield "vit", dict(name="vit", **vit), (3, 28, 28), 9, model


def describe(name, config, shape, classes, model):
    model.eval()
    with torch.no_grad():
        logits = model(images(shape))
    return dict(name=name, config=config, input=list(shape), classes=classes, logits=logits.tolist())


def write_small():
    entries = []
    for name, config, shape, classes, model in small():
        state = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
        for stream, (key, value) in enumerate(state.items()):
            value.copy_(weights(key, tuple(value.shape), stream))
        entry = describe(name, config, shape, classes, model)
        entry["tensors"] = [[key, list(value.shape)] for key, value in state.items()]
        entries.append(entry)
        print(name, entry["logits"][0][:3], file=sys.stderr)
    text = ",\n".join(json.dumps(entry) for entry in entries)
    (HERE / "networks.json").write_text(f"[\n{text}\n]\n")
    write_containers()


def write_containers():
    """The same small network in every container."""
    folder = HERE / "weights"
    folder.mkdir(exist_ok=True)
    torch.manual_seed(1)
    model = Mlp(36, [8], 3)
    state = model.state_dict()
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    # As a training script leaves it: other things beside the weights.
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(images((1, 6, 6))).sum().backward()
    before = {key: value.clone() for key, value in wrapped.items()}
    optimizer.step()
    checkpoint = dict(epoch=3, state_dict=before, optimizer=optimizer.state_dict(), best=0.5)
    torch.save(checkpoint, folder / "checkpoint.pth")
    save_file({key: value.contiguous() for key, value in before.items()}, folder / "f32.safetensors")
    half = {key: value.half() for key, value in before.items()}
    save_file(half, folder / "f16.safetensors")
    torch.save({key: value.bfloat16() for key, value in before.items()}, folder / "bf16.pth")
    model.load_state_dict({key.removeprefix("module."): value for key, value in before.items()})
    entry = describe("containers", dict(name="mlp", hidden=[8]), (1, 6, 6), 3, model)
    (folder / "logits.json").write_text(json.dumps(entry) + "\n")


def large():
    """Everything torchvision has, and the residual networks of CIFAR's form, as they are published."""
    models = torchvision.models
    for name in ["alexnet"]:
        yield name, (3, 224, 224), 1000, models.alexnet
    for depth in [11, 13, 16, 19]:
        yield f"vgg{depth}", (3, 224, 224), 1000, getattr(models, f"vgg{depth}")
        yield f"vgg{depth}-bn", (3, 224, 224), 1000, getattr(models, f"vgg{depth}_bn")
    for depth in [18, 34, 50, 101, 152]:
        yield f"resnet{depth}", (3, 224, 224), 1000, getattr(models, f"resnet{depth}")
    for depth in [20, 32, 44, 56, 110]:
        yield f"resnet{depth}", (3, 32, 32), 10, lambda depth=depth: CifarResNet(depth, 10)
    yield "vit-b-16", (3, 224, 224), 1000, models.vit_b_16
    yield "mlp", (1, 28, 28), 10, lambda: Mlp(784, [512, 256], 10)
    yield "rnn", (1, 28, 28), 10, lambda: Rnn(nn.LSTM, 28, 128, 1, 10)
    yield "lenet5", (1, 28, 28), 10, lambda: LeNet5(1, 28, 10, torch.tanh, F.avg_pool2d)


def write_large(folder, names):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, shape, classes, make in large():
        if name not in names:
            continue
        torch.manual_seed(7)
        model = make()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                # Statistics of a batch, as training leaves them: with others the values of a deep network grow without bound.
                nn.init.uniform_(module.weight, 0.2, 0.5)
                nn.init.uniform_(module.bias, -0.1, 0.1)
                module.momentum = 1.0
            if isinstance(module, nn.Linear) and not module.weight.any():
                # A transformer's head is published as zeros, which every network would agree with.
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, (torchvision.models.resnet.Bottleneck, torchvision.models.resnet.BasicBlock)):
                    # What a block adds is less than what it passes on. With as much of either, PyTorch in 32 bits is 2e-4
                    # away from itself in 64 after 152 layers.
                    getattr(module, "bn3", module.bn2).weight.mul_(0.2)
            model.train()(images(shape))
        file = f"{name}.pth"
        torch.save(model.state_dict(), folder / file)
        entry = describe(name, None, shape, classes, model)
        assert len(set(entry["logits"][0])) > classes / 2, f"{name}: logits that tell nothing"
        entry |= dict(file=file, parameters=sum(p.numel() for p in model.parameters()))
        entries.append(entry)
    missing = set(names) - {entry["name"] for entry in entries}
    if missing:
        sys.exit(f"no network named {', '.join(sorted(missing))}")
    (folder / "index.json").write_text(json.dumps(entries))


if __name__ == "__main__":
    torch.set_num_threads(2)
    if sys.argv[1:] == ["--list"]:
        print("\n".join(name for name, *_ in large()))
    elif len(sys.argv) > 2:
        write_large(sys.argv[1], sys.argv[2:])
    else:
        write_small()
