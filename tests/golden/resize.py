"""Makes resize/*.png: what Pillow makes of a real photograph, up and down, with torchvision as the second witness.

    pip install pillow torch torchvision
    python tests/golden/resize.py

`resize/cat.png` is a 150 x 110 part of "Chelsea the cat" by Stefan van der Walt (CC0), as scikit-image ships it.
Every picture below is `Image.resize(size, Image.BILINEAR)`; the script fails when torchvision's
`resize(antialias=True)` on the bytes differs from it by more than 1.
"""

import pathlib

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode, functional

SIZES = [(28, 28), (64, 47), (64, 64), (40, 100), (149, 109), (151, 110), (224, 164), (300, 31), (7, 5)]

folder = pathlib.Path(__file__).parent / "resize"
cat = Image.open(folder / "cat.png")
for mode in ("RGB", "L"):
    picture = cat.convert(mode)
    tensor = torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, -1).permute(2, 0, 1)
    for width, height in SIZES if mode == "RGB" else SIZES[:3]:
        expected = picture.resize((width, height), Image.BILINEAR)
        other = functional.resize(tensor, [height, width], InterpolationMode.BILINEAR, antialias=True)
        found = np.array(expected).reshape(height, width, -1).transpose(2, 0, 1)
        worst = np.abs(found.astype(int) - other.numpy().astype(int)).max()
        print(mode, width, height, "torchvision differs by", worst)
        assert worst <= 1
        expected.save(folder / f"{mode.lower()}-{width}x{height}.png", optimize=True)
# What the two fits of a photograph give: Resize(48) and CenterCrop(40, 44) as torchvision has them.
fitted = functional.center_crop(functional.resize(cat, [48]), [40, 44])
fitted.save(folder / "crop-44x40.png", optimize=True)
