"""The contact sheet has a row for each kind, and outlines beside the plain images."""

from __future__ import annotations

from pathlib import Path

import make_synthetic_sheet
import numpy as np
from PIL import Image

from napari_sam.training.synthetic import KINDS


def test_the_sheet_shows_every_kind_plain_and_outlined(tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    make_synthetic_sheet.main([str(file), "--columns", "2", "--side", "48"])
    with Image.open(file) as picture:
        sheet = np.asarray(picture.convert("RGB")).astype(int)
    height = make_synthetic_sheet.TITLE_PIXELS + 48
    assert sheet.shape == (height * len(KINDS), 4 * 48, 3)
    reds_over_blues = sheet[..., 0] - sheet[..., 2] > 150  # the outlines
    rows = reds_over_blues.reshape(len(KINDS), height, 2, 2, 48).sum(axis=(1, 2, 4))
    assert (rows[:, 1] > rows[:, 0] + 10).all()


def test_the_sheet_of_the_documentation_has_all_kinds() -> None:
    with Image.open(make_synthetic_sheet.SHEET) as picture:
        height = make_synthetic_sheet.TITLE_PIXELS + 128
        assert picture.size == (8 * 128, height * len(KINDS))
