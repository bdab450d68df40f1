import numpy as np
import pytest
from PIL import Image

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume

RGB = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)


def opened(path, picture):
    picture.save(path)
    volume = open_volume(path)
    return volume, volume.read(Region.whole(volume.shape))


def test_gray_of_8_and_16_bits(tmp_path):
    for array in (RGB[..., 0], RGB[..., 0].astype(np.uint16) * 200):
        volume, pixels = opened(tmp_path / "a.png", Image.fromarray(array))
        assert (volume.axes, volume.dtype) == ("YX", array.dtype)
        np.testing.assert_array_equal(pixels, array)


def test_rgb(tmp_path):
    volume, pixels = opened(tmp_path / "a.png", Image.fromarray(RGB))
    assert volume.axes == "YXS"
    np.testing.assert_array_equal(pixels, RGB)


def test_jpeg_with_a_foreign_suffix(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.dat", format="jpeg")
    assert open_volume(tmp_path / "a.dat").shape == (20, 30, 3)


def test_transparency_is_dropped(tmp_path):
    alpha = Image.fromarray(RGB).convert("RGBA")
    alpha.putalpha(7)
    _, pixels = opened(tmp_path / "a.png", alpha)
    np.testing.assert_array_equal(pixels, RGB)


def test_palettes_become_rgb(tmp_path):
    picture = Image.fromarray(RGB).quantize(16)
    volume, pixels = opened(tmp_path / "a.png", picture)
    assert volume.axes == "YXS"
    np.testing.assert_array_equal(pixels, np.asarray(picture.convert("RGB")))


def test_truncated_pictures_are_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match="cannot be opened"):
        open_volume(path)
