"""Windows through chunks: the pixels of direct reads, and each chunk decoded once."""

from itertools import accumulate, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.region import Region
from napari_sam.pipeline import chunk_cache
from napari_sam.pipeline.chunk_cache import ChunkCache
from napari_sam.tiling import tile_grid

LARGE = 2**30


class Decoder:
    """Slices of numbers that are read by whole chunks only, and counts how often."""

    def __init__(self, lengths_yx, n_slices=1, channels=1):
        shape = (n_slices, *(sum(lengths) for lengths in lengths_yx), channels)
        self.slices = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        self.edges = [list(accumulate(lengths, initial=0)) for lengths in lengths_yx]
        self.requests = []
        self.decoded = []

    def __call__(self, position, region):
        assert all(
            a in edges and b in edges
            for edges, a, b in zip(self.edges, region.start, region.stop, strict=True)
        )
        self.requests.append((position, region))
        tops, lefts = (
            [edge for edge in edges if a <= edge < b]
            for edges, a, b in zip(self.edges, region.start, region.stop, strict=True)
        )
        self.decoded += [(position, top, left) for top, left in product(tops, lefts)]
        return self.slices[position][region.slices].copy()


def cache_of(decoder, lengths_yx, budget=LARGE):
    return ChunkCache(decoder, lengths_yx, 4 * decoder.slices.shape[-1], budget)


def regular(length, chunk):
    whole, rest = divmod(length, chunk)
    return (chunk,) * whole + ((rest,) if rest else ())


@pytest.mark.parametrize("tile", [30, 64, 100])
@pytest.mark.parametrize("chunk", [(7, 9), (32, 32), (64, 200), (150, 200), (1, 200)])
def test_a_run_over_tiles_decodes_each_chunk_once(tile, chunk):
    lengths = regular(150, chunk[0]), regular(200, chunk[1])
    decoder = Decoder(lengths, n_slices=3, channels=2)
    cache = cache_of(decoder, lengths)
    for number, each in product(range(3), tile_grid((150, 200), tile, 10)):
        pixels = cache.get((number,), each.read)
        np.testing.assert_array_equal(pixels, decoder.slices[number][each.read.slices])
    assert (
        len(decoder.decoded) == len(set(decoder.decoded)) == 3 * len(lengths[0]) * len(lengths[1])
    )
    assert cache.n_pixels_read == 3 * 150 * 200


def test_chunks_side_by_side_are_read_in_one_request():
    lengths = regular(100, 10), regular(100, 10)
    decoder = Decoder(lengths)
    cache = cache_of(decoder, lengths)
    cache.get((0,), Region((5, 5), (35, 35)))
    assert decoder.requests == [((0,), Region((0, 0), (40, 40)))]
    cache.get((0,), Region((5, 25), (35, 65)))
    assert decoder.requests[1:] == [((0,), Region((0, 40), (40, 70)))]
    cache.get((0,), Region((25, 5), (55, 75)))
    assert decoder.requests[2:] == [
        ((0,), Region((20, 70), (40, 80))),
        ((0,), Region((40, 0), (60, 80))),
    ]


def test_large_requests_are_cut_along_rows(monkeypatch):
    monkeypatch.setattr(chunk_cache, "REQUEST_BYTES", 4 * 100 * 25)
    lengths = regular(100, 10), (100,)
    decoder = Decoder(lengths)
    cache_of(decoder, lengths).get((0,), Region((0, 0), (45, 100)))
    assert [region.start[0] for _, region in decoder.requests] == [0, 20, 40]


def test_what_lies_above_is_dropped():
    lengths = regular(400, 20), regular(90, 30)
    decoder = Decoder(lengths)
    cache = cache_of(decoder, lengths)
    most = 0
    windows = [tile.read for tile in tile_grid((400, 90), 40, 10)]
    for window in windows:
        cache.get((0,), window)
        most = max(most, cache.n_bytes)
    assert most == cache.band_bytes(windows) == 80 * 90 * 4  # 60 rows, which begin within a chunk
    cache.get((0,), Region((399, 0), (400, 1)))
    assert cache.n_bytes == 20 * 90 * 4


def test_another_slice_drops_the_one_before():
    lengths = (20,), (30,)
    decoder = Decoder(lengths, n_slices=2)
    cache = cache_of(decoder, lengths)
    for number in (0, 1, 0):
        pixels = cache.get((number,), Region((3, 4), (5, 6)))
        np.testing.assert_array_equal(pixels, decoder.slices[number, 3:5, 4:6])
        assert cache.n_bytes == 20 * 30 * 4
    assert len(decoder.requests) == 3


def test_the_budget_holds_where_a_row_does_not_fit():
    lengths = regular(60, 20), regular(200, 20)
    decoder = Decoder(lengths)
    budget = 5 * 20 * 20 * 4
    cache = cache_of(decoder, lengths, budget)
    windows = [tile.read for tile in tile_grid((60, 200), 20, 5)]
    for window in windows:
        pixels = cache.get((0,), window)
        np.testing.assert_array_equal(pixels, decoder.slices[0][window.slices])
        assert cache.n_bytes <= budget
    assert len(decoder.decoded) > 30
    assert cache.band_bytes(windows) == budget


def test_what_was_used_last_is_kept():
    lengths = (10,), (10,) * 4
    decoder = Decoder(lengths)
    cache = cache_of(decoder, lengths, budget=2 * 10 * 10 * 4)
    for column in (0, 10, 0, 20, 0):
        cache.get((0,), Region((0, column), (5, column + 5)))
    assert [left for _, _, left in decoder.decoded] == [0, 10, 20]


def test_a_chunk_larger_than_the_budget_is_decoded_once():
    lengths = (100,), (100,)
    decoder = Decoder(lengths)
    cache = cache_of(decoder, lengths, budget=10)
    windows = [tile.read for tile in tile_grid((100, 100), 40, 10)]
    for window in windows:
        cache.get((0,), window)
    assert len(decoder.decoded) == 1
    assert cache.band_bytes(windows) == cache.n_bytes == 100 * 100 * 4


def test_a_failed_read_leaves_what_is_right():
    lengths = regular(40, 10), regular(40, 10)
    decoder = Decoder(lengths)
    fails = [True]

    def read(position, region):
        if region.start[1] >= 20 and fails.pop():
            raise OSError("not now")
        return decoder(position, region)

    cache = ChunkCache(read, lengths, 4, LARGE)
    cache.get((0,), Region((0, 0), (20, 20)))
    fails.append(True)
    with pytest.raises(OSError, match="not now"):
        cache.get((0,), Region((0, 10), (20, 40)))
    fails.append(False)
    pixels = cache.get((0,), Region((0, 10), (20, 40)))
    np.testing.assert_array_equal(pixels, decoder.slices[0, 0:20, 10:40])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_windows_in_any_order_are_those_of_direct_reads(data):
    lengths = tuple(
        tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))) for _ in "YX"
    )
    decoder = Decoder(lengths, n_slices=2, channels=data.draw(st.integers(1, 3)))
    cache = cache_of(decoder, lengths, data.draw(st.integers(0, 4000)))
    chunk = max(lengths[0]) * max(lengths[1]) * 4 * decoder.slices.shape[-1]
    for _ in range(data.draw(st.integers(1, 8))):
        number = data.draw(st.integers(0, 1))
        start = [data.draw(st.integers(0, n - 1)) for n in decoder.slices.shape[1:3]]
        stop = [
            data.draw(st.integers(a + 1, n))
            for a, n in zip(start, decoder.slices.shape[1:3], strict=True)
        ]
        window = Region(tuple(start), tuple(stop))
        pixels = cache.get((number,), window)
        np.testing.assert_array_equal(pixels, decoder.slices[number][window.slices])
        assert cache.n_bytes <= max(cache._budget, chunk)
        assert cache.n_bytes == sum(kept.nbytes for kept in cache._kept.values())
