from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.core.errors import InputError, OutputError
from napari_sam.io.overlay import draw_overlay, label_colors, montage, write_png


def test_neighbouring_ids_get_distinct_bright_colors() -> None:
    colors = label_colors(np.arange(1, 65))
    distance = np.linalg.norm(np.diff(colors, axis=0), axis=1)
    assert distance.min() > 0.5
    assert colors.max(axis=1).min() == 1.0
    assert colors.min() == pytest.approx(0.2)


def test_color_depends_on_the_id_alone() -> None:
    np.testing.assert_array_equal(label_colors(np.array([7, 3]))[0], label_colors(np.array([7]))[0])


def test_overlay_tints_inside_draws_outline_and_leaves_background() -> None:
    pixels = np.full((9, 9), 100, dtype=np.uint8)
    labels = np.zeros((9, 9), dtype=np.int32)
    labels[2:7, 2:7] = 5
    color = 255.0 * label_colors(np.array([5]))[0]
    picture = draw_overlay(pixels, labels, opacity=0.5)
    assert picture.shape == (9, 9, 3)
    np.testing.assert_array_equal(picture[0, 0], [100, 100, 100])
    np.testing.assert_allclose(picture[2, 2], color, atol=1)
    np.testing.assert_allclose(picture[4, 4], 50 + color / 2, atol=1)


def test_overlay_keeps_rgb_and_negative_free_large_ids() -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[..., 1] = 200
    labels = np.zeros((4, 4), dtype=np.uint32)
    labels[0, 0] = np.iinfo(np.uint32).max
    picture = draw_overlay(pixels, labels)
    np.testing.assert_array_equal(picture[3, 3], [0, 200, 0])
    assert picture[0, 0].max() == 255


@pytest.mark.parametrize(
    ("pixels", "labels"),
    [
        (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)),
        (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4), np.int32)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.int32)),
    ],
    ids=["not uint8", "two channels", "other shape"],
)
def test_overlay_refuses(pixels: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(InputError):
        draw_overlay(pixels, labels)


def test_montage_lays_out_in_rows() -> None:
    pictures = [np.full((2, 3, 3), 50 + n, dtype=np.uint8) for n in range(5)]
    result = montage(pictures, gap_px=1)
    assert result.shape == (2 * 3 - 1, 3 * 4 - 1, 3)
    assert result[0, 8, 0] == 52
    assert result[3, 4, 0] == 54
    assert result[3, 8, 0] == result[2, 0, 0] == 32


def test_montage_of_fewer_pictures_than_columns() -> None:
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    assert montage([picture], columns=4).shape == (2, 3, 3)


@pytest.mark.parametrize("pictures", [[], [np.zeros((2, 2, 3)), np.zeros((2, 3, 3))]])
def test_montage_refuses(pictures: list[np.ndarray]) -> None:
    with pytest.raises(InputError):
        montage(pictures)


def test_png_round_trip_and_replacement(tmp_path: Path) -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    path = tmp_path / "overlay.png"
    write_png(path, np.zeros_like(picture))
    assert write_png(path, picture) == path
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)


def test_png_into_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="existing folder"):
        write_png(tmp_path / "absent" / "overlay.png", np.zeros((2, 2, 3), np.uint8))
