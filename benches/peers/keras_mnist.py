"""The MNIST tutorial in Keras, start to tested and saved model; the counterpart of configs/tutorial.toml."""

import json
import os
import resource
import tempfile
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras  # noqa: E402
from keras import layers  # noqa: E402

import harness  # noqa: E402

keras.utils.set_random_seed(1)
train, train_labels = harness.mnist("train")
test, test_labels = harness.mnist("t10k")
mean, std = train.mean() / 255, train.std() / 255


def prepare(pixels):
    return ((pixels.reshape(-1, 28, 28, 1).astype("float32") / 255) - mean) / std


model = keras.Sequential([
    keras.Input((28, 28, 1)),
    layers.Conv2D(32, 3, activation="relu"),
    layers.MaxPooling2D(),
    layers.Conv2D(64, 3, activation="relu"),
    layers.MaxPooling2D(),
    layers.Flatten(),
    layers.Dense(128, activation="relu"),
    layers.Dense(10),
])
model.compile(
    optimizer=keras.optimizers.Adam(1e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
start = time.perf_counter()
model.fit(prepare(train), train_labels, batch_size=128, epochs=10, validation_split=1 / 12, verbose=0)
seconds = time.perf_counter() - start
_, accuracy = model.evaluate(prepare(test), test_labels, batch_size=256, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    model.save(os.path.join(folder, "model.keras"))
print(json.dumps({
    "seconds": seconds,
    "test_accuracy": accuracy,
    "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
