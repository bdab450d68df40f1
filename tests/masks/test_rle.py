"""Run-length coding: exact round trips and COCO's own strings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_sam.core.errors import InputError
from napari_sam.masks import (
    PackedMask,
    compress_rle,
    decode_rle,
    decompress_rle,
    encode_rle,
    rle_area,
)

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@given(MASKS)
def test_round_trip_is_exact(mask: np.ndarray) -> None:
    plain = encode_rle(mask)
    text = compress_rle(plain)
    np.testing.assert_array_equal(decode_rle(plain), mask)
    np.testing.assert_array_equal(decode_rle(text), mask)
    assert decompress_rle(text) == plain
    assert rle_area(text) == rle_area(plain) == mask.sum()


@given(MASKS)
def test_runs_go_down_the_columns_and_start_with_background(mask: np.ndarray) -> None:
    runs, value, length = [], False, 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    runs.append(length)
    assert encode_rle(mask) == {"size": list(mask.shape), "counts": runs}


@given(MASKS, st.tuples(*[st.integers(0, 3)] * 4))
def test_a_packed_mask_codes_as_its_frame_does(
    mask: np.ndarray, pad: tuple[int, int, int, int]
) -> None:
    frame = np.pad(mask, (pad[:2], pad[2:]))
    packed = PackedMask.from_array(mask, (pad[0], pad[2]))
    assert encode_rle(packed, frame.shape) == encode_rle(frame)


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30))
def test_strings_hold_any_count(counts: list[int]) -> None:
    rle = {"size": [1, sum(counts)], "counts": counts}
    assert decompress_rle(compress_rle(rle)) == rle


def test_strings_are_cocos_own() -> None:
    # worked by hand from the format: 10, 20 and 300 as they are, then 50 - 20 and 7 - 300
    rle = compress_rle({"size": [387, 1], "counts": [10, 20, 300, 50, 7]})
    assert rle["counts"] == ":d0\\9n0kF"


def test_counts_that_do_not_fit_the_size_are_refused() -> None:
    with pytest.raises(InputError, match="add up to 5"):
        decode_rle({"size": [2, 2], "counts": [5]})
    with pytest.raises(InputError, match="non-negative"):
        decode_rle({"size": [2, 2], "counts": [-1, 5]})


@pytest.mark.parametrize("text", ["5p", "5 ", "5P"])
def test_strings_that_are_not_runs_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="COCO"):
        decompress_rle({"size": [2, 2], "counts": text})


def test_a_packed_mask_needs_a_frame_that_holds_it() -> None:
    packed = PackedMask.from_array(np.ones((2, 2), bool), (3, 0))
    with pytest.raises(InputError, match="frame"):
        encode_rle(packed)
    with pytest.raises(InputError, match="frame"):
        encode_rle(packed, (4, 4))
