"""PyTorch, eager; with `--compile` through torch.compile."""

import sys

import torch
from torch import nn

import harness
from nets import CLASSES, Net

torch.set_num_threads(harness.threads())
COMPILE = "--compile" in sys.argv


def network(net: Net) -> nn.Module:
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[net.activation]
    layers, channels = [], net.input[0]
    for conv in net.convolutions:
        layers += [nn.Conv2d(channels, conv.channels, conv.kernel, conv.stride, conv.padding), activation()]
        if conv.pool:
            layers.append({"max": nn.MaxPool2d, "average": nn.AvgPool2d}[conv.pool](2))
        channels = conv.channels
    layers.append(nn.Flatten())
    features = net.features()
    for outputs in net.dense:
        layers += [nn.Linear(features, outputs), activation()]
        features = outputs
    return nn.Sequential(*layers, nn.Linear(features, CLASSES))


def build(net: Net, work: str, batch_size: int) -> harness.Case:
    torch.manual_seed(1)
    model = network(net)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    forward = torch.compile(model) if COMPILE else model
    pixels, labels = (torch.from_numpy(array) for array in harness.images(net))
    labels = labels.long()
    mean, std = pixels.float().div(255).mean(), pixels.float().div(255).std()

    def normalise(batch: torch.Tensor) -> torch.Tensor:
        return (batch.float() * (1 / 255) - mean) * (1 / std)

    if work == "inference":
        model.eval()
        inputs = normalise(pixels[:batch_size])

        @torch.inference_mode()
        def step() -> None:
            forward(inputs).numpy()

        return harness.Case(parameters, step)

    # All parameters in one pass: the fastest Adam that PyTorch has on a CPU.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batches = harness.order(len(pixels), batch_size)

    def step() -> None:
        indices = torch.from_numpy(next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(forward(normalise(pixels[indices])), labels[indices])
        loss.backward()
        optimizer.step()

    return harness.Case(parameters, step)


NAME = "PyTorch, compiled" if COMPILE else "PyTorch"
if __name__ == "__main__":
    harness.main(harness.Peer(NAME, torch.__version__, build))
