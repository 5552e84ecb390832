"""The handwritten digits of the UCI repository ("Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998),
as scikit-learn carries them, as folders of pictures: 1,797 digits of 8x8 pixels by 13 writers, who are not those of MNIST.

    handwritten_digits.py FOLDER

The last 797 go to `test`: the data are ordered by writer, so most of their writers are not in `train`.
Needs scikit-learn and pillow.
"""

import pathlib
import sys

from PIL import Image
from sklearn.datasets import load_digits

TEST = 797

digits = load_digits()
folder = pathlib.Path(sys.argv[1])
for index, (image, label) in enumerate(zip(digits.images, digits.target)):
    part = "test" if index >= len(digits.images) - TEST else "train"
    to = folder / part / str(label)
    to.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image * 255 / 16).round().astype("uint8")).save(to / f"{index:04}.png")
