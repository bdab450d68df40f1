import functools
import io
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from RangeHTTPServer import RangeRequestHandler

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.io import open_volume

DATA = np.random.default_rng(0).integers(0, 60000, (3, 40, 50)).astype(np.uint16)
AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
ATTRIBUTES = {
    "version": "0.5",
    "multiscales": [
        {
            "axes": AXES,
            "datasets": [
                {
                    "path": str(level),
                    "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5, 0.5]}],
                }
                for level in range(2)
            ],
        }
    ],
}


def write_image(place, zarr_format=3):
    group = zarr.open_group(place, mode="w", zarr_format=zarr_format)
    group.create_array("0", data=DATA, chunks=(1, 20, 20))
    group.create_array("1", data=np.ascontiguousarray(DATA[:, ::2, ::2]), chunks=(1, 20, 20))
    group.attrs.update({"ome": ATTRIBUTES} if zarr_format == 3 else ATTRIBUTES)


def read_all(volume):
    return volume.read(Region.whole(volume.shape))


@pytest.fixture
def server(tmp_path):
    """A web server that gives parts of files; its address and what was asked of it."""
    requests = []

    class Handler(RangeRequestHandler):
        def log_message(self, form, *words):
            requests.append(" ".join(map(str, words)))

    handler = functools.partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", requests
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("end", ["", "/"])
def test_an_ome_zarr_in_a_storage(memory, zarr_format, end):
    write_image("memory://bucket/a.zarr", zarr_format)
    url = f"memory://bucket/a.zarr{end}"
    volume = open_volume(url)
    assert (volume.path, volume.axes, volume.is_ngff) == (url, "ZYX", True)
    assert volume.levels == ((3, 40, 50), (3, 20, 25))
    assert volume.scale == (2.0, 0.5, 0.5)
    np.testing.assert_array_equal(read_all(volume), DATA)
    volume.close()


def test_a_level_and_a_plain_array_in_a_storage(memory):
    write_image("memory://bucket/a.zarr")
    volume = open_volume("memory://bucket/a.zarr/0", axes="TYX")
    assert (volume.axes, volume.is_ngff) == ("TYX", False)
    np.testing.assert_array_equal(read_all(volume), DATA)


def test_a_url_of_a_file_is_opened_as_its_path(tmp_path):
    write_image(tmp_path / "a b.zarr")
    volume = open_volume((tmp_path / "a b.zarr").as_uri())
    assert volume.path == tmp_path / "a b.zarr"
    np.testing.assert_array_equal(read_all(volume), DATA)


def test_an_ome_zarr_on_a_web_server(server, tmp_path):
    address, _ = server
    write_image(tmp_path / "a.zarr")
    volume = open_volume(f"{address}/a.zarr")
    np.testing.assert_array_equal(read_all(volume), DATA)


def test_a_tiff_on_a_web_server_is_read_in_parts(server, tmp_path):
    address, requests = server
    stack = np.random.default_rng(0).integers(0, 255, (40, 256, 256)).astype(np.uint8)
    options = {"compression": "zlib", "photometric": "minisblack", "ome": True}
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZYX"}, **options)
    volume = open_volume(f"{address}/a.tif")
    assert volume.axes == "ZYX"
    requests.clear()
    block = volume.read(Region((30, 0, 0), (31, 256, 256)))
    np.testing.assert_array_equal(block[0], stack[30])
    assert 1 <= len(requests) <= 2
    assert all(" 206 " in f"{request} " for request in requests)
    volume.close()


def test_a_tiff_in_a_storage_is_closed_with_its_volume(memory):
    content = io.BytesIO()
    tifffile.imwrite(content, DATA, photometric="minisblack")
    memory.pipe("/bucket/a.tif", content.getvalue())
    volume = open_volume("memory://bucket/a.tif", axes="ZYX")
    np.testing.assert_array_equal(read_all(volume), DATA)
    volume.close()
    with pytest.raises(InputError, match="within reach"):
        read_all(volume)


def test_a_picture_in_a_storage(memory):
    content = io.BytesIO()
    Image.fromarray(DATA[0].astype(np.uint8)).save(content, "PNG")
    memory.pipe("/bucket/a.png", content.getvalue())
    volume = open_volume("memory://bucket/a.png")
    np.testing.assert_array_equal(read_all(volume), DATA[0].astype(np.uint8))


def test_a_truncated_tiff_in_a_storage_is_refused(memory):
    content = io.BytesIO()
    tifffile.imwrite(content, DATA, photometric="minisblack")
    memory.pipe("/bucket/a.tif", content.getvalue()[:9000])
    with pytest.raises(InputError, match="truncated"):
        open_volume("memory://bucket/a.tif", axes="ZYX")


def test_other_files_of_a_tiff_are_not_sought_on_this_machine(memory, tmp_path, monkeypatch):
    parts = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="s{z}.tif">urn:uuid:{z}'
        "</UUID></TiffData>"
        for z in range(2)
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image '
        'ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" '
        'SizeY="40" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>'
        f"{parts}</Pixels></Image></OME>"
    )
    content = io.BytesIO()
    tifffile.imwrite(content, DATA[0], description=xml, metadata=None)
    memory.pipe("/bucket/s0.tif", content.getvalue())
    (tmp_path / "s1.tif").write_bytes(content.getvalue().replace(b"uuid:0", b"uuid:1", 1))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"several files|are missing"):
        open_volume("memory://bucket/s0.tif")


@pytest.mark.parametrize("name", ["a.zarr", "*.tif", ""])
def test_what_is_missing_in_a_storage_is_said(memory, name):
    with pytest.raises(InputError, match="does not exist"):
        open_volume(f"memory://bucket/{name}")


def test_what_is_missing_on_a_web_server_is_said(server):
    with pytest.raises(InputError, match="does not exist"):
        open_volume(f"{server[0]}/a.zarr")


def test_a_server_that_does_not_answer_is_said():
    with pytest.raises(InputError, match="cannot be reached"):
        open_volume("http://127.0.0.1:9/a.zarr")


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_what_becomes_unreachable_is_said(memory, monkeypatch, name):
    content = io.BytesIO()
    tifffile.imwrite(content, DATA[0])
    memory.pipe("/bucket/a.tif", content.getvalue())
    write_image("memory://bucket/a.zarr")
    volume = open_volume(f"memory://bucket/{name}")
    before = volume.identity()
    assert volume.identity() == before

    def refuse(*args, **kwargs):
        raise OSError("the line is dead")

    for method in ("cat_file", "info"):
        monkeypatch.setattr(type(memory), method, refuse)
    with pytest.raises(InputError, match=r"cannot be reached.*the line is dead"):
        volume.identity()
    volume.close()


def test_other_content_in_a_storage_is_refused(memory):
    memory.pipe("/bucket/a.txt", b"hello")
    with pytest.raises(InputError, match=r"The URL memory://bucket/a\.txt holds no image format"):
        open_volume("memory://bucket/a.txt")


def test_a_group_without_an_image_names_what_it_holds(memory):
    zarr.open_group("memory://bucket/a.zarr", mode="w").create_array("raw", data=DATA)
    with pytest.raises(InputError, match=r"such as memory://bucket/a\.zarr/raw"):
        open_volume("memory://bucket/a.zarr")


@pytest.mark.parametrize(
    ("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("https", "aiohttp")]
)
def test_a_missing_package_is_named(monkeypatch, protocol, package):
    def refuse(url, **options):
        raise ImportError("it is not installed")

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
    with pytest.raises(InputError, match=rf"it is not installed.*pip install {package}"):
        open_volume(f"{protocol}://bucket/a.zarr")


def test_an_unknown_kind_of_url_is_refused():
    with pytest.raises(InputError, match="Protocol not known: nowhere"):
        open_volume("nowhere://bucket/a.zarr")


@pytest.mark.parametrize("error", [PermissionError("Forbidden"), OSError("No credentials found")])
def test_what_may_not_be_read_is_said(memory, monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error

    for name in ("cat_file", "info", "_open"):
        monkeypatch.setattr(type(memory), name, refuse)
    with pytest.raises(InputError, match=r"may not be read.*FSSPEC_S3_ANON"):
        open_volume("memory://bucket/a.zarr")


def test_a_url_that_a_path_has_spoiled_is_explained(tmp_path):
    with pytest.raises(InputError, match="Give a URL as text"):
        open_volume(Path("s3://bucket/a.zarr"))
