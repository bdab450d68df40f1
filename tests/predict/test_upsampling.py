"""Masks made in their own region equal those of plain interpolation."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from napari_sam.masks import stability_score
from napari_sam.model.sam import InputSpec
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.upsampling import MaskUpsampler
from napari_sam.predict.windows import Window, whole_frame

SPEC = InputSpec(size=128)
NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)
CPU = torch.device("cpu")


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


def pasted(region_list: list, shape: tuple[int, int]) -> np.ndarray:
    frames = np.zeros((len(region_list), *shape), dtype=bool)
    for frame, region in zip(frames, region_list, strict=True):
        y, x = region.origin_yx
        h, w = region.pixels.shape
        frame[y : y + h, x : x + w] = region.pixels
    return frames


@pytest.mark.parametrize("size", [(128, 128), (90, 128), (300, 211), (40, 50), (7, 33)])
def test_official_upsampling_is_interpolation(size: tuple[int, int]) -> None:
    transform = ImageTransform.for_image(size, SPEC)
    logits = bumps(40, (32, 32))
    upsampler = MaskUpsampler.for_window(transform, whole_frame(transform), CPU, 0.0, 1.0)
    regions = upsampler.upsample(logits)
    expected = F.interpolate(logits[:, None], (128, 128), mode="bilinear", align_corners=False)
    h, w = transform.input_size_yx
    expected = F.interpolate(expected[..., :h, :w], size, mode="bilinear", align_corners=False)
    expected = expected[:, 0]
    masks = pasted(regions, size)
    certain = (expected.abs() > 1e-4).numpy()
    np.testing.assert_array_equal(masks[certain], (expected > 0).numpy()[certain])
    stability = [region.stability for region in regions]
    np.testing.assert_allclose(stability, stability_score(expected, 0.0, 1.0), atol=2e-3)
    small = [region for region in regions if 0 < region.pixels.sum() < masks[0].size / 20]
    assert all(region.pixels.size < masks[0].size / 2 for region in small)


def test_native_windows_are_placed_in_the_image() -> None:
    transform = ImageTransform.for_image((150, 250), NATIVE)
    window = Window(32, 128, 128, 128)
    logits = bumps(20, (64, 64))
    regions = MaskUpsampler.for_window(transform, window, CPU, 0.5, 1.0).upsample(logits)
    expected = F.interpolate(logits[:, None], (128, 128), mode="bilinear", align_corners=False)
    masks = pasted(regions, (150, 250))
    visible = expected[:, 0, : 150 - 32, : 250 - 128]
    inside = masks[:, 32:, 128:]
    certain = ((visible - 0.5).abs() > 1e-4).numpy()
    np.testing.assert_array_equal(inside[certain], (visible > 0.5).numpy()[certain])
    assert masks.sum() == inside.sum()


def test_no_mask_has_no_pixels_and_no_stability() -> None:
    transform = ImageTransform.for_image((100, 128), SPEC)
    upsampler = MaskUpsampler.for_window(transform, whole_frame(transform), CPU, 0.0)
    logits = torch.full((2, 32, 32), -5.0)
    logits[1, 30:] = 5.0  # only in the padding
    for region in upsampler.upsample(logits):
        assert not region.pixels.any()
        assert np.isnan(region.stability)
