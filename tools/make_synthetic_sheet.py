"""Draw the contact sheet of synthetic images that the documentation shows.

    python tools/make_synthetic_sheet.py [FILE] [--columns N] [--side N] [--seed N]

Each row is a kind; every image is shown plain and with the outlines of its labels. Without FILE it
writes ``docs/images/synthetic.png``. Take it anew when a kind changes, and look at it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from napari_sam.evaluation.datasets import stretch
from napari_sam.training.synthetic import KINDS, synthetic_image

SHEET = Path(__file__).resolve().parent.parent / "docs" / "images" / "synthetic.png"
OUTLINE_RGB = (255, 210, 0)
STEP = 12  # values are rounded to it, so that noise does not fill the file
TITLE_PIXELS = 14


def make_sheet(columns: int, side: int, seed: int) -> Image.Image:
    """Draw ``columns`` images of each kind, one row a kind."""
    height = TITLE_PIXELS + side
    sheet = Image.new("RGB", (2 * columns * side, height * len(KINDS)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, kind in enumerate(sorted(KINDS)):
        draw.text((2, row * height), kind, fill="black")
        for column in range(columns):
            rng = np.random.default_rng([seed, row, column])
            image, labels = synthetic_image((side, side), rng, kind)
            top = row * height + TITLE_PIXELS
            for offset, picture in enumerate(_plain_and_outlined(image, labels)):
                place = ((2 * column + offset) * side, top)
                sheet.paste(Image.fromarray(picture), place)
    coarse = sheet.point(lambda value: value // STEP * STEP + STEP // 2)
    return coarse.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def _plain_and_outlined(
    image: NDArray[Any], labels: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Show an image as training sees it, (H, W, 3), and once more with its labels' outlines."""
    plain = stretch(image)
    if plain.ndim == 2:
        plain = np.repeat(plain[..., None], 3, axis=2)
    border = np.zeros(labels.shape, bool)
    border[1:] |= labels[1:] != labels[:-1]
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    outlined = plain.copy()
    outlined[border] = OUTLINE_RGB
    return plain, outlined


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", type=Path, default=SHEET)
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    make_sheet(options.columns, options.side, options.seed).save(options.file, optimize=True)


if __name__ == "__main__":
    main()
