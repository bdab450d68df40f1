import numpy as np
import pytest

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import ArrayVolume, open_volume


def test_axes_are_put_in_canonical_order(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)  # X, Y, Z in the file
    volume = ArrayVolume(
        tmp_path, [array], "XYZ", scale={"X": 0.5, "Z": 2.0}, units={"X": "micrometer"}
    )
    assert volume.axes == "ZYX"
    assert volume.shape == (4, 3, 2)
    assert volume.scale == (2.0, 1.0, 0.5)
    assert volume.units == (None, None, "micrometer")
    block = volume.read(Region((1, 0, 0), (3, 3, 1)))
    np.testing.assert_array_equal(block, array.transpose(2, 1, 0)[1:3, 0:3, 0:1])


def test_blocks_outside_the_image_are_refused(tmp_path):
    volume = ArrayVolume(tmp_path, [np.zeros((4, 4))], "YX")
    with pytest.raises(InputError, match="inside the image"):
        volume.read(Region((0, 0), (5, 4)))


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_images_without_pixels_are_refused(tmp_path, shape):
    with pytest.raises(InputError, match="at least one pixel"):
        ArrayVolume(tmp_path, [np.zeros(shape)], "ZYX"[-len(shape) :])


def test_errors_of_decoders_become_input_errors(tmp_path):
    class Broken:
        shape = (4, 4)
        dtype = np.dtype(np.uint8)

        def __getitem__(self, index):
            raise RuntimeError("bad checksum")

    with pytest.raises(InputError, match="bad checksum"):
        ArrayVolume(tmp_path, [Broken()], "YX").read(Region((0, 0), (1, 1)))


def test_closing_twice_closes_once(tmp_path):
    calls = []
    volume = ArrayVolume(tmp_path, [np.zeros((4, 4))], "YX", close=lambda: calls.append(1))
    volume.close()
    volume.close()
    assert calls == [1]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.tif does not exist"):
        open_volume(tmp_path / "nothing.tif")


@pytest.mark.parametrize("content", [b"", b"hello world", b"II"])
def test_unknown_files_are_refused(tmp_path, content):
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no image format"):
        open_volume(path)


def test_unknown_directories_are_refused(tmp_path):
    with pytest.raises(InputError, match="no image format"):
        open_volume(tmp_path)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "image.tif"
    path.write_bytes(b"II*\0")

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        open_volume(path)
