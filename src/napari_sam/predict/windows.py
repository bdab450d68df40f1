"""Windows in the input frame: where to encode, where to decode, and how to cut features.

Models that resize have one window, the whole frame. A model that keeps native pixels encodes a
large image in overlapping windows and decodes in a window that follows the prompt: first in a close
one, since the decoder's time goes with the window's area, and where that cuts the object off, in a
window of the model's input size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import InputSpec
from napari_sam.predict.transforms import ImageTransform

__all__ = [
    "PROMPT_MARGIN",
    "Window",
    "balanced_spans",
    "close_up",
    "covering_windows",
    "crop_features",
    "whole_frame",
    "window_around",
]

PROMPT_MARGIN = 32
"""Pixels of image that a decode window shows around a prompt, where the image has them."""


@dataclass(frozen=True)
class Window:
    """A rectangle of the input frame, in input pixels.

    Parameters
    ----------
    y, x : int
        First row and column, multiples of the embedding's stride.
    height, width : int
        Rows and columns, multiples of the model's padding.
    """

    y: int
    x: int
    height: int
    width: int

    @property
    def size_yx(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def offset_xy(self) -> NDArray[np.float64]:
        """First column and row, to be taken from coordinates in the frame."""
        return np.array([self.x, self.y], dtype=np.float64)

    def cells(self, stride: int) -> tuple[slice, slice]:
        """Rows and columns of a map with `stride` pixels per cell."""
        return (
            slice(self.y // stride, (self.y + self.height) // stride),
            slice(self.x // stride, (self.x + self.width) // stride),
        )


def whole_frame(transform: ImageTransform) -> Window:
    """Return the window that is the whole input frame."""
    return Window(0, 0, *transform.padded_size_yx)


def crop_features(features: ImageFeatures, window: Window, stride: int) -> ImageFeatures:
    """Cut the features of one window, (1, C, h, w), without copying.

    Parameters
    ----------
    features : ImageFeatures
        Features of the whole frame, (1, C, h, w); finer maps may follow in ``skips``.
    window : Window
        The window to cut.
    stride : int
        Input pixels per cell of the embedding.

    Returns
    -------
    ImageFeatures
    """
    cells = features.embedding.shape[-1]

    def cut(level_stride: int) -> tuple[slice, slice]:
        return window.cells(level_stride)

    rows, cols = cut(stride)
    if (rows.stop - rows.start, cols.stop - cols.start) == features.embedding.shape[-2:]:
        return features
    skips = []
    for skip in features.skips:
        skip_rows, skip_cols = cut(stride * cells // skip.shape[-1])
        skips.append(skip[..., skip_rows, skip_cols])
    return ImageFeatures(features.embedding[..., rows, cols], tuple(skips))


def balanced_spans(length: int, size: int, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Cover an axis with equal spans that overlap.

    Parameters
    ----------
    length : int
        Pixels to cover, a multiple of `multiple`.
    size : int
        Largest span.
    overlap : int
        Pixels that neighbours share, less up to `multiple` where the axis does not divide evenly;
        at most `size` less `multiple`.
    multiple : int
        Starts and lengths are multiples of this.

    Returns
    -------
    list of tuple of int
        (start, length) of each span; the first starts at 0, the last ends at `length`.
    """
    if length <= size:
        return [(0, length)]
    overlap = min(overlap, size - multiple)
    if overlap <= 0:  # windows as small as the padding itself
        return [(start, size) for start in range(0, length - size, size)] + [(length - size, size)]
    count = -(-(length - overlap) // (size - overlap))
    span = -(-(length + (count - 1) * overlap) // count)
    span = min(span + -span % multiple, size)
    last = length - span
    starts = [last * i // (count - 1) // multiple * multiple for i in range(count)]
    return [(start, span) for start in starts]


def covering_windows(
    transform: ImageTransform, size: int, overlap: int, multiple: int
) -> list[Window]:
    """Cover the input frame with windows, row by row; parameters as in `balanced_spans`."""
    rows, cols = (
        balanced_spans(length, size, overlap, multiple) for length in transform.padded_size_yx
    )
    return [Window(y, x, height, width) for y, height in rows for x, width in cols]


def window_around(
    extent_xyxy: tuple[float, float, float, float], transform: ImageTransform, spec: InputSpec
) -> Window:
    """Choose the decode window that shows enough around a prompt.

    Parameters
    ----------
    extent_xyxy : tuple of float
        The smallest rectangle around all of the prompt, in the input frame.
    transform : ImageTransform
        How the image lies in the input frame.
    spec : InputSpec
        What the model expects.

    Returns
    -------
    Window
        Of the model's input size and centred on the prompt, moved where it would leave the frame;
        larger when the prompt with `PROMPT_MARGIN` around it is larger, at most the whole frame.
        The whole frame for a model that resizes.
    """
    if not spec.native_resolution:
        return whole_frame(transform)
    x0, y0, x1, y1 = extent_xyxy
    rows, cols = transform.padded_size_yx
    y, height = _span_around(y0, y1, rows, spec.size, spec)
    x, width = _span_around(x0, x1, cols, spec.size, spec)
    return Window(y, x, height, width)


def close_up(
    extent_xyxy: tuple[float, float, float, float], within: Window, spec: InputSpec
) -> Window:
    """Choose the window that a prompt is decoded in first.

    It follows the prompt alone, wherever others stand: the compact model draws prompts into its
    image tokens, so that two prompts in one window would have nothing to share.

    Parameters
    ----------
    extent_xyxy : tuple of float
        The smallest rectangle around all of the prompt, in the input frame.
    within : Window
        The decode window that shows enough in any case.
    spec : InputSpec
        What the model expects.

    Returns
    -------
    Window
        Of the model's decode size and centred on the prompt, moved where it would leave `within`;
        larger when the prompt with `PROMPT_MARGIN` around it is larger. At most `within`, which
        it is for a model that resizes.
    """
    if not spec.native_resolution or spec.decode_size is None:
        return within
    x0, y0, x1, y1 = extent_xyxy
    rows, cols = within.size_yx
    y, height = _span_around(y0 - within.y, y1 - within.y, rows, spec.decode_size, spec)
    x, width = _span_around(x0 - within.x, x1 - within.x, cols, spec.decode_size, spec)
    return Window(within.y + y, within.x + x, height, width)


def _span_around(
    low: float, high: float, length: int, least: int, spec: InputSpec
) -> tuple[int, int]:
    low, high = max(low, 0.0), min(high, float(length))
    # the start moves down by less than a stride: one stride more on both sides holds the margin
    needed = int(np.ceil(high - low)) + 2 * (PROMPT_MARGIN + spec.stride)
    size = max(least, needed + -needed % spec.pad_multiple)
    if size >= length:
        return 0, length
    start = int((low + high - size) / 2) // spec.stride * spec.stride
    return min(max(start, 0), length - size), size
