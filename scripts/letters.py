"""How many printed letters a model refuses to take for digits.

    python scripts/letters.py KILN MODEL [KEEP]

Draws A to Z with every DejaVu and Liberation font of this machine (Debian: fonts-dejavu, fonts-liberation), dark on
light, and asks `KILN predict --model MODEL`. Letters that are a digit to the eye are left out: I, O, Q, S and Z, and B
and G, whose printed forms are an 8 and a 6 with a corner. Needs Pillow.
"""

import json
import string
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

LETTERS = [letter for letter in string.ascii_uppercase if letter not in "BGIOQSZ"]
FONTS = sorted(
    path
    for path in Path("/usr/share/fonts/truetype").glob("*/*.ttf")
    if path.parent.name in ("dejavu", "liberation") and "Math" not in path.name
)


def draw(letter: str, font: Path, to: Path) -> None:
    face = ImageFont.truetype(str(font), 90)
    left, top, right, bottom = face.getbbox(letter)
    picture = Image.new("L", (right - left + 60, bottom - top + 60), 235)
    ImageDraw.Draw(picture).text((30 - left, 30 - top), letter, font=face, fill=25)
    picture.save(to)


def main() -> None:
    kiln, model, *keep = sys.argv[1:]
    if not FONTS:
        sys.exit("no DejaVu or Liberation fonts in /usr/share/fonts/truetype")
    flags = ["--keep", keep[0]] if keep else []
    with tempfile.TemporaryDirectory() as folder:
        for letter in LETTERS:
            for font in FONTS:
                draw(letter, font, Path(folder) / f"{letter}-{font.stem}.png")
        command = [kiln, "predict", "--model", model, "--json", *flags, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    taken = {}
    for answer in answers:
        if not answer["rejected"]:
            case = f"{Path(answer['path']).name[0]} as {answer['label']}"
            taken[case] = taken.get(case, 0) + 1
    refused = 1 - sum(taken.values()) / len(answers)
    print(f"{len(answers)} letters ({len(LETTERS)} of {len(FONTS)} fonts): {100 * refused:.1f} % refused")
    most = sorted(taken.items(), key=lambda item: -item[1])[:10]
    print("taken for digits most often:", ", ".join(f"{case} ({count})" for case, count in most))


if __name__ == "__main__":
    main()
