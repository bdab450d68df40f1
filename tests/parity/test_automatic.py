"""Segment everything against the reference implementation, records and their order included."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from segment_anything import SamAutomaticMaskGenerator as ReferenceGenerator

from napari_sam.masks import decode_rle
from napari_sam.predict import AutomaticMaskGenerator
from reference_sam import reference_of
from tiny_models import tiny_sam

SHAPES = [(240, 400), (300, 210), (256, 256)]


def image_of(shape: tuple[int, int]) -> np.ndarray:
    """Blobs of many sizes, so that random weights draw masks of many sizes too."""
    rng = np.random.default_rng(shape[0])
    noise = ndimage.gaussian_filter(rng.normal(size=(*shape, 3)), (6, 6, 0))
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return (255 * noise).astype(np.uint8)


def assert_equal_records(ours: list[Any], reference: list[dict[str, Any]]) -> None:
    assert len(ours) == len(reference)
    for record, expected in zip(ours, reference, strict=True):
        got = record.as_dict()
        assert list(got) == list(expected)
        assert got["bbox"] == expected["bbox"]
        assert got["crop_box"] == expected["crop_box"]
        np.testing.assert_allclose(got["point_coords"], expected["point_coords"])
        assert got["predicted_iou"] == pytest.approx(expected["predicted_iou"], abs=1e-5)
        assert got["stability_score"] == pytest.approx(expected["stability_score"], abs=1e-5)
        assert got["area"] == expected["area"]
        if isinstance(expected["segmentation"], dict):
            assert got["segmentation"] == expected["segmentation"]
        else:
            np.testing.assert_array_equal(got["segmentation"], expected["segmentation"])


OPTIONS = {
    "points_per_side": 12,
    "points_per_batch": 32,
    "pred_iou_thresh": 0.01,
    "stability_score_thresh": 0.005,
    "box_nms_thresh": 0.9,
    "crop_nms_thresh": 0.8,
    "stability_score_offset": 0.05,
}


def models() -> tuple[Any, Any]:
    """Our model and the reference, with a mask threshold that makes masks of small objects."""
    sam = tiny_sam("vit")
    sam.mask_threshold = 0.3
    reference = reference_of(sam)
    reference.mask_threshold = 0.3
    return sam, reference


@pytest.mark.parametrize("crop_n_layers", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_records_equal_the_reference(shape: tuple[int, int], crop_n_layers: int) -> None:
    (sam, reference_sam), image = models(), image_of(shape)
    options = OPTIONS | {
        "crop_n_layers": crop_n_layers,
        "crop_n_points_downscale_factor": 2 if crop_n_layers == 2 else 1,
    }
    reference = ReferenceGenerator(reference_sam, **options).generate(image)
    ours = AutomaticMaskGenerator(sam, **options).generate(image)
    assert len(reference) >= 5
    if crop_n_layers:
        assert len({tuple(record["crop_box"]) for record in reference}) > 1
    assert_equal_records(ours, reference)


@pytest.mark.parametrize("output_mode", ["binary_mask", "uncompressed_rle"])
def test_output_modes_and_cleaned_regions_equal_the_reference(
    output_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", labelling_like_opencv())
    (sam, reference_sam), image = models(), image_of(SHAPES[0])
    options = OPTIONS | {"output_mode": output_mode, "min_mask_region_area": 30}
    reference = ReferenceGenerator(reference_sam, **options).generate(image)
    untouched = ReferenceGenerator(reference_sam, **OPTIONS).generate(image)
    assert [r["area"] for r in reference] != [r["area"] for r in untouched]
    assert_equal_records(AutomaticMaskGenerator(sam, **options).generate(image), reference)


def test_coco_strings_unfold_to_the_masks() -> None:
    (sam, _), image = models(), image_of(SHAPES[1])
    plain = AutomaticMaskGenerator(sam, **OPTIONS).generate(image)
    coded = AutomaticMaskGenerator(sam, **OPTIONS, output_mode="coco_rle").generate(image)
    assert len(plain) == len(coded) >= 5
    for record, expected in zip(coded, plain, strict=True):
        assert isinstance(record.segmentation["counts"], str)
        np.testing.assert_array_equal(decode_rle(record.segmentation), expected.segmentation)


def labelling_like_opencv() -> ModuleType:
    """The one function of OpenCV that the reference needs, on scipy's labelling."""

    def connected_components(mask: np.ndarray, connectivity: int) -> tuple[Any, ...]:
        assert connectivity == 8
        regions, count = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(regions.ravel(), minlength=count + 1)
        return count + 1, regions, sizes[:, None], None

    module = ModuleType("cv2")
    module.connectedComponentsWithStats = connected_components
    return module
