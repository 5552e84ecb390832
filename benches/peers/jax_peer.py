"""JAX with optax: one jitted function for a training step, one for inference."""

import os

import harness

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads={harness.threads()}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from nets import CLASSES, Net  # noqa: E402


def initialise(net: Net) -> list[tuple[jax.Array, jax.Array]]:
    """Weights and biases, uniform within 1 / sqrt(fan-in)."""
    shapes, channels = [], net.input[0]
    for conv in net.convolutions:
        shapes.append((conv.kernel, conv.kernel, channels, conv.channels))
        channels = conv.channels
    features = net.features()
    for outputs in (*net.dense, CLASSES):
        shapes.append((features, outputs))
        features = outputs
    keys = jax.random.split(jax.random.PRNGKey(1), len(shapes))
    bounds = [1 / np.sqrt(np.prod(shape[:-1])) for shape in shapes]
    return [
        (jax.random.uniform(key, shape, minval=-bound, maxval=bound), jnp.zeros(shape[-1]))
        for key, shape, bound in zip(keys, shapes, bounds)
    ]


def forward(net: Net, parameters: list, x: jax.Array) -> jax.Array:
    """Images `[N, H, W, C]` to logits `[N, K]`."""
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh}[net.activation]
    window = (1, 2, 2, 1)
    for conv, (weight, bias) in zip(net.convolutions, parameters):
        padding = [(conv.padding, conv.padding)] * 2
        x = jax.lax.conv_general_dilated(
            x, weight, (conv.stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = activation(x + bias)
        if conv.pool == "max":
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
        elif conv.pool == "average":
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / 4
    x = x.reshape(x.shape[0], -1)
    dense = parameters[len(net.convolutions) :]
    for weight, bias in dense[:-1]:
        x = activation(x @ weight + bias)
    weight, bias = dense[-1]
    return x @ weight + bias


def build(net: Net, work: str, batch_size: int) -> harness.Case:
    parameters = initialise(net)
    count = sum(weight.size + bias.size for weight, bias in parameters)
    pixels, labels = harness.images(net)
    pixels = pixels.transpose(0, 2, 3, 1).copy()
    mean, std = pixels.mean() / 255, pixels.std() / 255

    if work == "inference":
        inputs = jnp.asarray((pixels[:batch_size].astype("float32") / 255 - mean) / std)
        predict = jax.jit(lambda parameters, x: forward(net, parameters, x))
        return harness.Case(count, lambda: np.asarray(predict(parameters, inputs)))

    optimizer = optax.adam(1e-3)
    state = optimizer.init(parameters)
    batches = harness.order(len(pixels), batch_size)

    @jax.jit
    def update(parameters, state, x, y):
        x = (x.astype(jnp.float32) / 255 - mean) / std

        def loss_of(parameters):
            logits = forward(net, parameters, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        loss, gradients = jax.value_and_grad(loss_of)(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    def step() -> None:
        nonlocal parameters, state
        indices = next(batches)
        parameters, state, loss = update(parameters, state, pixels[indices], labels[indices].astype("int32"))
        loss.block_until_ready()

    return harness.Case(count, step)


if __name__ == "__main__":
    harness.main(harness.Peer("JAX", jax.__version__, build))
