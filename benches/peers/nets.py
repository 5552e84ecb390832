"""The networks that are compared, once for all frameworks; `kiln bench --net NAME` has the same."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """A convolution with bias and activation, then perhaps a 2x2 pooling."""

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0
    pool: str | None = None  # "max", "average"


@dataclass(frozen=True)
class Net:
    """Convolutions, then dense layers; the last dense layer gives 10 logits."""

    input: tuple[int, int, int]  # channels, height, width
    convolutions: tuple[Conv, ...]
    dense: tuple[int, ...]
    activation: str  # "relu", "tanh"
    parameters: int

    def features(self) -> int:
        """Values that the first dense layer sees."""
        channels, height, width = self.input
        for conv in self.convolutions:
            channels = conv.channels
            height, width = (
                ((side + 2 * conv.padding - conv.kernel) // conv.stride + 1) // (2 if conv.pool else 1)
                for side in (height, width)
            )
        return channels * height * width


CLASSES = 10
TUTORIAL = (Conv(32, pool="max"), Conv(64, pool="max"))

NETS = {
    # The net of most MNIST tutorials, without and with the hidden dense layer.
    "cnn": Net((1, 28, 28), TUTORIAL, (), "relu", 34_826),
    "cnn-dense": Net((1, 28, 28), TUTORIAL, (128,), "relu", 225_034),
    # LeCun et al. 1998, figure 2, with the full connection table.
    "lenet5": Net(
        (1, 28, 28), (Conv(6, 5, padding=2, pool="average"), Conv(16, 5, pool="average")), (120, 84), "tanh", 61_706
    ),
    # The plain net of He et al. 2016, section 4.2, with n = 1, and no pooling before the classifier.
    "stack": Net(
        (3, 32, 32),
        (
            Conv(16, padding=1),
            Conv(16, padding=1),
            Conv(16, padding=1),
            Conv(32, stride=2, padding=1),
            Conv(32, padding=1),
            Conv(64, stride=2, padding=1),
            Conv(64, padding=1),
        ),
        (),
        "relu",
        115_370,
    ),
}
