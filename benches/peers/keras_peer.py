"""Keras on TensorFlow: `fit` for training (compiled by XLA where Keras chooses so), `tf.function` for inference."""

import os
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

import harness  # noqa: E402
from nets import CLASSES, Net  # noqa: E402

tf.config.threading.set_intra_op_parallelism_threads(harness.threads())
tf.config.threading.set_inter_op_parallelism_threads(harness.threads())
layers = keras.layers


def network(net: Net) -> keras.Model:
    channels, height, width = net.input
    model = keras.Sequential([keras.Input((height, width, channels))])
    for conv in net.convolutions:
        padding = "same" if conv.padding else "valid"
        model.add(
            layers.Conv2D(conv.channels, conv.kernel, conv.stride, padding=padding, activation=net.activation)
        )
        if conv.pool:
            model.add({"max": layers.MaxPooling2D, "average": layers.AveragePooling2D}[conv.pool](2))
    model.add(layers.Flatten())
    for outputs in net.dense:
        model.add(layers.Dense(outputs, activation=net.activation))
    model.add(layers.Dense(CLASSES))
    return model


def build(net: Net, work: str, batch_size: int) -> harness.Case:
    keras.utils.set_random_seed(1)
    model = network(net)
    pixels, labels = harness.images(net)
    inputs = pixels.transpose(0, 2, 3, 1).astype("float32") / 255
    inputs = (inputs - inputs.mean()) / inputs.std()
    labels = labels.astype("int64")

    if work == "inference":
        batch = tf.constant(inputs[:batch_size])
        forward = tf.function(lambda x: model(x, training=False))
        return harness.Case(model.count_params(), lambda: forward(batch).numpy())

    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    rate = 0.0

    def fit(samples: int) -> float:
        start = time.perf_counter()
        model.fit(inputs[:samples], labels[:samples], batch_size=batch_size, epochs=1, verbose=0)
        return time.perf_counter() - start

    def run(seconds: float) -> tuple[int, float]:
        nonlocal rate
        # Whole batches, as many as fit into the round; several passes where the images run out.
        limit = len(inputs) // batch_size * batch_size
        samples, elapsed = 0, 0.0
        while True:
            left = int((seconds - elapsed) * rate) // batch_size * batch_size
            if samples and left <= batch_size:
                break
            now = min(max(left, 4 * batch_size), limit)
            took = fit(now)
            samples, elapsed, rate = samples + now, elapsed + took, now / took
        return samples, elapsed

    return harness.Case(model.count_params(), lambda: fit(4 * batch_size), run)


if __name__ == "__main__":
    harness.main(harness.Peer("Keras", f"{keras.__version__} on TensorFlow {tf.__version__}", build))
