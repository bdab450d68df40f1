"""Windows cover the frame, follow the prompt and stay inside."""

import dataclasses
import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import InputSpec
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.windows import (
    PROMPT_MARGIN,
    Window,
    balanced_spans,
    close_up,
    crop_features,
    whole_frame,
    window_around,
)

NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)
CLOSE = dataclasses.replace(NATIVE, size=256, decode_size=128)


@given(st.integers(1, 100), st.integers(5, 16), st.integers(0, 4))
def test_spans_cover_the_axis_and_overlap(cells: int, size_cells: int, overlap_cells: int) -> None:
    length, size, overlap = cells * 32, size_cells * 32, overlap_cells * 32
    spans = balanced_spans(length, size, overlap, 32)
    assert spans[0][0] == 0
    assert spans[-1][0] + spans[-1][1] == length
    assert all(start % 32 == 0 and span % 32 == 0 and 0 < span <= size for start, span in spans)
    for (start, span), (following, _) in itertools.pairwise(spans):
        assert following > start
        assert start + span - following >= overlap - 32


@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_windows_hold_the_prompt_and_its_margin(
    size: tuple[int, int], corners: tuple[float, ...]
) -> None:
    transform = ImageTransform.for_image(size, NATIVE)
    rows, cols = size
    x0, x1 = sorted((corners[0] * cols, corners[2] * cols))
    y0, y1 = sorted((corners[1] * rows, corners[3] * rows))
    window = window_around((x0, y0, x1, y1), transform, NATIVE)
    frame = whole_frame(transform)
    for start, length, low, high, limit in (
        (window.x, window.width, x0, x1, frame.width),
        (window.y, window.height, y0, y1, frame.height),
    ):
        assert start % 8 == 0
        assert length % 32 == 0
        assert start >= 0
        assert start + length <= limit
        assert start <= max(low - PROMPT_MARGIN, 0)
        assert start + length >= min(high + PROMPT_MARGIN, limit)
        assert length == limit or length >= NATIVE.size


@given(
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_close_windows_hold_the_prompt_and_its_margin_inside_wide_ones(
    size: tuple[int, int], corners: tuple[float, ...]
) -> None:
    transform = ImageTransform.for_image(size, CLOSE)
    rows, cols = size
    x0, x1 = sorted((corners[0] * cols, corners[2] * cols))
    y0, y1 = sorted((corners[1] * rows, corners[3] * rows))
    extent = (x0, y0, x1, y1)
    wide = window_around(extent, transform, CLOSE)
    close = close_up(extent, wide, CLOSE)
    for start, length, low, high, first, limit in (
        (close.x, close.width, x0, x1, wide.x, wide.x + wide.width),
        (close.y, close.height, y0, y1, wide.y, wide.y + wide.height),
    ):
        assert start % 8 == 0
        assert length % 32 == 0
        assert first <= start
        assert start + length <= limit
        assert start <= max(low - PROMPT_MARGIN, first)
        assert start + length >= min(high + PROMPT_MARGIN, limit)
        assert length >= min(128, limit - first)
        assert length in (128, limit - first) or high - low > 128 - 2 * (PROMPT_MARGIN + 8)


def test_a_close_window_is_centred_on_a_click() -> None:
    transform = ImageTransform.for_image((800, 900), CLOSE)
    extent = (411.0, 503.0, 411.0, 503.0)
    close = close_up(extent, window_around(extent, transform, CLOSE), CLOSE)
    assert close == Window(432, 344, 128, 128)


def test_models_that_resize_have_one_window() -> None:
    transform = ImageTransform.for_image((300, 500), InputSpec())
    whole = Window(0, 0, 1024, 1024)
    assert window_around((5, 5, 9, 9), transform, InputSpec()) == whole
    assert close_up((5, 5, 9, 9), whole, InputSpec(decode_size=256)) == whole


def test_without_a_decode_size_there_is_no_close_window() -> None:
    assert close_up((100, 100, 100, 100), Window(0, 0, 256, 256), NATIVE) == Window(0, 0, 256, 256)


def test_features_are_cut_on_every_level() -> None:
    embedding = torch.arange(10 * 12).reshape(1, 1, 10, 12)
    fine = torch.arange(40 * 48).reshape(1, 1, 40, 48)
    cut = crop_features(ImageFeatures(embedding, (fine,)), Window(16, 24, 32, 64), stride=8)
    np.testing.assert_array_equal(cut.embedding, embedding[:, :, 2:6, 3:11])
    np.testing.assert_array_equal(cut.skips[0], fine[:, :, 8:24, 12:44])
