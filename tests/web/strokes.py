"""Pen strokes and pictures of real digits, for the tests of the browser page.

Takes the first digits of every class from MNIST's test images, thins each to its skeleton and follows the skeleton
from end to end. Writes strokes.json: [{"digit", "index", "strokes": [[[x, y], ...], ...]}], in pixels of the 28x28 image;
pictures/N.png, the first image of every class as it is; and pictures/photo.png, a 5 as a camera might see it: dark ink
on unevenly lit paper.

    python tests/web/strokes.py FOLDER_WITH_IDX_FILES     (needs numpy and scikit-image)
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.morphology import skeletonize
from skimage.transform import resize

SCALE = 4  # thinning on a finer grid follows the middle of a stroke more closely
FOR_EACH = 3


def idx(folder, name, header):
    path = folder / name
    data = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
    return np.frombuffer(data, np.uint8, offset=header)


def neighbours(pixels, at):
    y, x = at
    ring = [(y + dy, x + dx) for dy, dx in
            ((-1, 0), (0, 1), (1, 0), (0, -1), (-1, -1), (-1, 1), (1, 1), (1, -1))]
    near = [p for p in ring if p in pixels]
    straight = [p for p in near if p[0] == y or p[1] == x]
    # A diagonal step beside a straight one to the same place is the same line.
    return [p for p in near if p in straight or not any(abs(p[0] - s[0]) + abs(p[1] - s[1]) == 1 for s in straight)]


def trace(skeleton):
    """Every edge of the skeleton's graph once; a stroke goes on straight through crossings."""
    pixels = set(map(tuple, np.argwhere(skeleton)))
    degree = {p: len(neighbours(pixels, p)) for p in pixels}
    used, strokes = set(), []
    for start in sorted(pixels, key=lambda p: (degree[p] != 1, p)):
        while True:
            line, at, way = [start], start, (0, 0)
            while True:
                ahead = [p for p in neighbours(pixels, at) if frozenset((at, p)) not in used]
                if not ahead:
                    break
                following = max(ahead, key=lambda p: (p[0] - at[0]) * way[0] + (p[1] - at[1]) * way[1])
                used.add(frozenset((at, following)))
                line.append(following)
                back = line[max(0, len(line) - 6)]
                way = (following[0] - back[0], following[1] - back[1])
                at = following
            if len(line) == 1:
                break
            strokes.append(line)
    if not strokes:
        strokes = [[p] for p in sorted(pixels)[:1]]
    longest = max(map(len, strokes))
    return [s for s in strokes if len(s) >= min(longest, 2 * SCALE)]


def strokes_of(image):
    large = resize(image / 255.0, (28 * SCALE, 28 * SCALE), order=3)
    lines = trace(skeletonize(large > 0.45))
    points = lambda line: [*line[:-1:SCALE], line[-1]]
    return [[[round((x + 0.5) / SCALE, 2), round((y + 0.5) / SCALE, 2)] for y, x in points(line)] for line in lines]


def photo(image):
    """240x320, the digit off the centre, light falling off to one side, seeded noise."""
    ink = np.zeros((320, 240))
    ink[60:256, 20:216] = resize(image / 255.0, (196, 196), order=3).clip(0, 1)
    y, x = np.mgrid[0:320, 0:240]
    paper = 235 - 0.25 * x - 0.15 * y
    noise = np.random.default_rng(1).normal(0, 4, paper.shape)
    return (paper * (1 - 0.75 * ink) + noise).clip(0, 255).astype(np.uint8)


def main():
    folder = Path(sys.argv[1])
    images = idx(folder, "t10k-images-idx3-ubyte", 16).reshape(-1, 28, 28)
    labels = idx(folder, "t10k-labels-idx1-ubyte", 8)
    pictures = Path(__file__).parent / "pictures"
    pictures.mkdir(exist_ok=True)
    rows = []
    for digit in range(10):
        for index in np.flatnonzero(labels == digit)[:FOR_EACH]:
            rows.append({"digit": digit, "index": int(index), "strokes": strokes_of(images[index])})
        Image.fromarray(images[np.flatnonzero(labels == digit)[0]]).save(pictures / f"{digit}.png", optimize=True)
    Image.fromarray(photo(images[np.flatnonzero(labels == 5)[1]])).save(pictures / "photo.png", optimize=True)
    text = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    (Path(__file__).parent / "strokes.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main()
