"""Masks made in their own region equal those of plain interpolation."""

import platform

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from napari_sam.masks import stability_score
from napari_sam.model.execution import execution_override
from napari_sam.model.sam import InputSpec
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.upsampling import MaskUpsampler
from napari_sam.predict.windows import Window, whole_frame

SPEC = InputSpec(size=128)
NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)


def bumps(count: int, size: tuple[int, int]) -> torch.Tensor:
    """Logits with a bump of another size and place in each mask, on an uneven ground."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in size), indexing="ij")
    masks = []
    for index in range(count):
        cy, cx = torch.rand(2, generator=generator) * torch.tensor(size)
        distance = ((y - cy) ** 2 + (x - cx) ** 2).sqrt()
        masks.append(1.5 * (index % 7) + 1.0 - distance)
    noise = torch.randn(count, *size, generator=generator)
    return torch.stack(masks) + 0.5 * noise


def assert_same_masks(masks: np.ndarray, logits: torch.Tensor, threshold: float = 0.0) -> None:
    """Compare masks with logits; where torch may round another way, not within its rounding."""
    expected = (logits > threshold).numpy()
    if platform.machine().lower() not in ("x86_64", "amd64"):
        certain = ((logits - threshold).abs() > 1e-5).numpy()
        masks, expected = masks[certain], expected[certain]
    np.testing.assert_array_equal(masks, expected)


def pasted(region_list: list, shape: tuple[int, int]) -> np.ndarray:
    frames = np.zeros((len(region_list), *shape), dtype=bool)
    for frame, region in zip(frames, region_list, strict=True):
        y, x = region.origin_yx
        h, w = region.pixels.shape
        frame[y : y + h, x : x + w] = region.pixels
    return frames


@pytest.mark.parametrize("in_regions", [True, False])
@pytest.mark.parametrize("size", [(128, 128), (90, 128), (300, 211), (40, 50), (7, 33)])
def test_official_upsampling_is_interpolation_in_every_bit(
    size: tuple[int, int], in_regions: bool
) -> None:
    transform = ImageTransform.for_image(size, SPEC)
    logits = bumps(40, (32, 32))
    upsampler = MaskUpsampler.for_window(transform, whole_frame(transform), 0.0, 1.0)
    with execution_override(upsamples_in_regions=in_regions):
        regions = upsampler.upsample(logits)
    expected = F.interpolate(logits[:, None], (128, 128), mode="bilinear", align_corners=False)
    h, w = transform.input_size_yx
    expected = F.interpolate(expected[..., :h, :w], size, mode="bilinear", align_corners=False)
    expected = expected[:, 0]
    masks = pasted(regions, size)
    assert_same_masks(masks, expected)
    stability = np.array([region.stability for region in regions], np.float32)
    np.testing.assert_allclose(stability, stability_score(expected, 0.0, 1.0), rtol=1e-6)
    small = [region for region in regions if 0 < region.pixels.sum() < masks[0].size / 20]
    assert all((region.pixels.size < masks[0].size / 2) is in_regions for region in small)


def test_native_windows_are_placed_in_the_image() -> None:
    transform = ImageTransform.for_image((150, 250), NATIVE)
    window = Window(32, 128, 128, 128)
    logits = bumps(20, (64, 64))
    regions = MaskUpsampler.for_window(transform, window, 0.5, 1.0).upsample(logits)
    expected = F.interpolate(logits[:, None], (128, 128), mode="bilinear", align_corners=False)
    masks = pasted(regions, (150, 250))
    visible = expected[:, 0, : 150 - 32, : 250 - 128]
    inside = masks[:, 32:, 128:]
    assert_same_masks(inside, visible, 0.5)
    assert masks.sum() == inside.sum()


def test_no_mask_has_no_pixels_and_no_stability() -> None:
    transform = ImageTransform.for_image((100, 128), SPEC)
    upsampler = MaskUpsampler.for_window(transform, whole_frame(transform), 0.0)
    logits = torch.full((2, 32, 32), -5.0)
    logits[1, 30:] = 5.0  # only in the padding
    for region in upsampler.upsample(logits):
        assert not region.pixels.any()
        assert np.isnan(region.stability)


def test_a_mask_as_large_as_the_image_is_made_in_strips_with_the_same_bits() -> None:
    spec = InputSpec(size=1024)
    transform = ImageTransform.for_image((900, 1100), spec)
    logits = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
    regions = MaskUpsampler.for_window(transform, whole_frame(transform), 0.0).upsample(logits)
    expected = F.interpolate(logits[None], (1024, 1024), mode="bilinear", align_corners=False)
    h, w = transform.input_size_yx
    expected = F.interpolate(
        expected[..., :h, :w], (900, 1100), mode="bilinear", align_corners=False
    )[0]
    assert_same_masks(pasted(regions, (900, 1100)), expected)
