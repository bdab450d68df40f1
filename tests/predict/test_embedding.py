"""Encoding step by step gives what encoding at once gives."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest
import torch

from napari_sam.core.errors import DeviceError
from napari_sam.model.layers import ImageFeatures
from napari_sam.predict.embedding import encode_pixels, encode_steps
from napari_sam.predict.transforms import ImageTransform
from tiny_models import tiny_sam

COMPACT = tiny_sam("compact")
OFFICIAL = tiny_sam("vit")


def pixels_of(shape_yx: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape_yx, 3), dtype=np.uint8)


def drain(steps: Generator, seen: list) -> ImageFeatures:
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as finished:
            return finished.value


@pytest.mark.parametrize(
    ("sam", "shape", "total"),
    [(COMPACT, (300, 200), 6), (COMPACT, (90, 60), 1), (OFFICIAL, (128, 100), 1)],
)
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_steps_are_counted_and_rounding_comes_last(sam, shape, total, dtype) -> None:
    pixels = pixels_of(shape)
    transform = ImageTransform.for_image(shape, sam.input_spec)
    steps = encode_steps(sam, pixels, transform, dtype)
    seen = [next(steps)]
    assert not torch.is_inference_mode_enabled()
    features = drain(steps, seen)
    assert seen == [(done, total) for done in range(total + 1)]
    with torch.inference_mode():
        exact = encode_pixels(sam, pixels, transform)
    for ours, expected in zip(
        (features.embedding, *features.skips), (exact.embedding, *exact.skips), strict=True
    ):
        assert ours.dtype == dtype or ours.dtype == expected.dtype
        assert torch.equal(ours, expected.to(ours.dtype))
        assert ours.is_contiguous(memory_format=torch.channels_last)  # as a CPU decodes it fastest


def test_errors_of_a_step_are_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("device lost")

    transform = ImageTransform.for_image((90, 60), COMPACT.input_spec)
    steps = encode_steps(COMPACT, pixels_of((90, 60)), transform)
    next(steps)
    monkeypatch.setattr(COMPACT, "encode", fail)
    with pytest.raises(DeviceError):
        next(steps)
