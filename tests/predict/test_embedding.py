"""Encoding step by step gives what encoding at once gives."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest
import torch

from napari_sam.core.errors import DeviceError, OutOfMemoryError
from napari_sam.core.steps import result_of
from napari_sam.model.execution import execution_for, execution_override
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.predict.embedding import encode_steps
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
        exact = result_of(encode_steps(sam, pixels, transform))
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


def encode_in_batches(
    monkeypatch: pytest.MonkeyPatch, at_once: int, largest: int = 99
) -> tuple[list[int], list, ImageFeatures]:
    """Encode 300 x 200 pixels: sizes of the batches, steps, features; memory holds `largest`."""
    sizes: list[int] = []
    encode = Sam.encode

    def counting(self: Sam, pixels: torch.Tensor) -> ImageFeatures:
        sizes.append(len(pixels))
        if len(pixels) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, pixels)

    seen: list = []
    transform = ImageTransform.for_image((300, 200), COMPACT.input_spec)
    with monkeypatch.context() as patch, execution_override(windows_per_batch=at_once):
        patch.setattr(Sam, "encode", counting)
        features = drain(encode_steps(COMPACT, pixels_of((300, 200)), transform), seen)
    return sizes, seen, features


@pytest.mark.parametrize(("at_once", "expected"), [(3, [3, 3]), (4, [4, 2]), (9, [6])])
def test_windows_in_batches_give_the_same_mosaic_and_steps(
    monkeypatch: pytest.MonkeyPatch, at_once: int, expected: list[int]
) -> None:
    sizes, seen, features = encode_in_batches(monkeypatch, at_once)
    one_by_one, usual_steps, exact = encode_in_batches(monkeypatch, 1)
    assert (sizes, one_by_one) == (expected, [1] * 6)
    assert seen == usual_steps == [(done, 6) for done in range(7)]
    for ours, other in zip(
        (features.embedding, *features.skips), (exact.embedding, *exact.skips), strict=True
    ):
        assert torch.allclose(ours, other, atol=1e-5, rtol=1e-5)


def test_a_cpu_encodes_one_window_at_a_time() -> None:
    assert execution_for(torch.device("cpu")).windows_per_batch == 1


def test_windows_go_one_by_one_where_memory_is_too_small_for_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes, seen, features = encode_in_batches(monkeypatch, 4, largest=3)
    assert sizes == [4, *[1] * 6]
    assert seen[-1] == (6, 6)
    assert torch.equal(features.embedding, encode_in_batches(monkeypatch, 1)[2].embedding)
    with pytest.raises(OutOfMemoryError):
        encode_in_batches(monkeypatch, 4, largest=0)


@pytest.mark.parametrize("pins", [False, True])
def test_pixels_are_pinned_for_devices_that_take_them_so(
    monkeypatch: pytest.MonkeyPatch, pins: bool
) -> None:
    """Pinned memory needs a GPU; here it is asked for, and usual memory is given."""
    asked: list[bool] = []
    copies: list[bool] = []
    empty, to = torch.empty, torch.Tensor.to

    def give(*shape: object, pin_memory: bool = False, **options: object) -> torch.Tensor:
        if options.get("dtype") == torch.uint8:
            asked.append(pin_memory)
        return empty(*shape, **options)

    def copy(tensor: torch.Tensor, *target: object, **options: object) -> torch.Tensor:
        if "non_blocking" in options:
            assert tensor.dtype == torch.uint8  # the bytes are sent, and become floats there
            copies.append(bool(options["non_blocking"]))
        return to(tensor, *target, **options)

    transform = ImageTransform.for_image((90, 60), COMPACT.input_spec)
    expected = result_of(encode_steps(COMPACT, pixels_of((90, 60)), transform))
    monkeypatch.setattr(torch, "empty", give)
    monkeypatch.setattr(torch.Tensor, "to", copy)
    with execution_override(**({"pins_tiles": True} if pins else {})):
        features = result_of(encode_steps(COMPACT, pixels_of((90, 60)), transform))
    assert asked == copies == [pins]
    assert torch.equal(features.embedding, expected.embedding)


def test_only_cuda_pins() -> None:
    pins = [execution_for(torch.device(d)).pins_tiles for d in ("cpu", "mps", "cuda")]
    assert pins == [False, False, True]
