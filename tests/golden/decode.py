"""Small files of kinds that no encoder in Rust writes, with their pixels as Pillow or tifffile reads them.

    pip install pillow==13.0.0 numpy tifffile imagecodecs && python tests/golden/decode.py

Each NAME.jpg and NAME.tif in `decode/` has its pixels beside it as NAME.png.
"""

import io
import pathlib

import numpy as np
import tifffile
from PIL import Image

FOLDER = pathlib.Path(__file__).parent / "decode"

y, x = np.mgrid[0:37, 0:51]
wave = lambda a, b, c: (127 + 120 * np.sin(x / a + y / b + c)).astype(np.uint8)
COLOR = Image.fromarray(np.stack([wave(5, 9, 0), wave(11, 4, 1), wave(7, 7, 2)], axis=2))
GREY = COLOR.convert("L")
INK = Image.fromarray(((x - 25) ** 2 + (y - 18) ** 2 > 150) | (x % 7 == 0)).convert("1")


def save(name, image, pixels=None, **options):
    image.save(FOLDER / name, **options)
    expected = pixels or Image.open(FOLDER / name)
    expected.convert("L" if expected.mode in "1L" else "RGB").save(FOLDER / (name.rsplit(".", 1)[0] + ".png"), optimize=True)


def tiff(name, array, pixels, **options):
    tifffile.imwrite(FOLDER / name, array, metadata=None, **options)
    Image.fromarray(pixels).save(FOLDER / (name.rsplit(".", 1)[0] + ".png"), optimize=True)


jpeg = {"quality": 70}
save("baseline-420.jpg", COLOR, subsampling=2, **jpeg)
save("baseline-422.jpg", COLOR, subsampling=1, **jpeg)
save("progressive-420.jpg", COLOR, subsampling=2, progressive=True, **jpeg)
save("progressive-444.jpg", COLOR, subsampling=0, progressive=True, **jpeg)
save("progressive-grey.jpg", GREY, progressive=True, **jpeg)
save("restart-420.jpg", COLOR, subsampling=2, restart_marker_blocks=2, **jpeg)
save("restart-progressive.jpg", COLOR, subsampling=2, restart_marker_blocks=3, progressive=True, **jpeg)
save("cmyk.jpg", COLOR.convert("CMYK"), **jpeg)

save("group3.tif", INK, compression="group3")
save("group3-2d.tif", INK, compression="group3", tiffinfo={292: 1})
save("runs.tif", INK, compression="tiff_ccitt")
save("group4.tif", INK, compression="group4")
save("packbits.tif", INK, compression="packbits")
save("palette.tif", COLOR.quantize(16), compression="tiff_lzw")
save("ycbcr-jpeg.tif", COLOR, compression="jpeg")
save("cmyk.tif", COLOR.convert("CMYK"), compression="tiff_deflate")

color, grey = np.asarray(COLOR), np.asarray(GREY)
tiles = {"tile": (16, 16), "photometric": "rgb"}
tiff("tiled-planar.tif", np.moveaxis(color, 2, 0), color, planarconfig="separate", compression="lzw", predictor=True, **tiles)
tiff("tiled.tif", color, color, compression="zlib", predictor=True, **tiles)
tiff("planar.tif", np.moveaxis(color, 2, 0), color, planarconfig="separate", photometric="rgb", rowsperstrip=8)
tiff("float.tif", (grey / 255).astype(np.float32), grey, compression="zlib", predictor=True)
tiff("half.tif", (grey / 255).astype(np.float16), grey)
tiff("int32.tif", grey.astype(np.int32), grey, byteorder=">")
tiff("uint16-big.tif", grey.astype(np.uint16) * 257, grey, compression="lzw", predictor=True, bigtiff=True, byteorder=">")
tiff("white-is-zero.tif", 255 - grey, grey, photometric="miniswhite")
