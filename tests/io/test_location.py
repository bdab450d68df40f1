from pathlib import Path

import pytest

from napari_sam.core.errors import OutputError
from napari_sam.io.location import as_location, is_url, local_target, location_name


@pytest.mark.parametrize(
    "place",
    ["s3://a/b", "https://a.org/b.zarr", "memory://a", "file:///a", "simplecache::s3://a/b"],
)
def test_urls(place):
    assert is_url(place)


@pytest.mark.parametrize(
    "place", ["a.tif", "/a/b", "C:\\a", "C:/a", "C://a", "a/b://c", "../a", Path("s3://a"), "a::b"]
)
def test_paths(place):
    assert not is_url(place)
    assert as_location(place) == Path(place)


def test_a_url_stays_text():
    assert as_location("s3://bucket//a/") == "s3://bucket//a/"


def test_a_url_of_a_file_is_its_path(tmp_path):
    place = tmp_path / "a file%.zarr"
    assert as_location(place.as_uri()) == place


def test_a_name_holds_no_secret():
    assert location_name("https://a.org/b/c.tif?token=secret") == "c.tif"
    assert location_name("s3://b/c.zarr/") == "c.zarr"
    assert location_name(Path("a/c.zarr")) == "c.zarr"


@pytest.mark.parametrize("target", ["s3://a/b.zarr", "file:///a/b.zarr", Path("s3://a/b.zarr")])
def test_nothing_is_written_to_a_url(target):
    with pytest.raises(OutputError, match="is a URL"):
        local_target(target)


def test_a_target_on_this_machine_is_a_path():
    assert local_target("a/b.zarr") == Path("a/b.zarr")
