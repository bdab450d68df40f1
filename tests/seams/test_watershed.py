"""A watershed in tiles against one of the whole, on maps that are the same in both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from map_model import draw_discs, map_sam
from napari_sam.evaluation import label_iou_matrix
from napari_sam.io import ArrayVolume
from napari_sam.pipeline import AutomaticOptions, ModelSegmenter, SegmentConfig, segment_volume
from napari_sam.predict import segment_everything
from napari_sam.tiling import Contrast

SHAPE = (160, 200)


@pytest.mark.parametrize("tile", [64, 96])
@pytest.mark.parametrize(("apart", "least_iou"), [(30, 1.0), (21, 0.98)])
def test_the_same_objects_in_tiles_and_whole(
    tile: int, apart: int, least_iou: float, tmp_path: Path
) -> None:
    """Where discs meet, which of them has a pixel on the line may depend on what else is seen."""
    discs = [(x, y, 11.0) for x in range(16, 190, apart) for y in range(18, 150, 30)]
    image, sam = draw_discs(SHAPE, discs), map_sam()
    whole = segment_everything(image, sam, Contrast((0.0,), (255.0,)), mode="watershed")
    assert whole.max() == len(discs)
    config = SegmentConfig(
        channels=(0, 1, 2),
        contrast_limits=(0, 255),
        tile=tile,
        halo=32,
        automatic=AutomaticOptions(mode="watershed"),
    )
    volume = ArrayVolume(Path("discs"), [np.moveaxis(image, -1, 0)], "CYX")
    segmenter = ModelSegmenter(sam, config.automatic)
    list(segment_volume(volume, tmp_path / "out.zarr", config, segmenter))
    tiled = np.asarray(zarr.open_array(tmp_path / "out.zarr" / "0", mode="r")[...])
    overlaps = label_iou_matrix(tiled, whole)
    assert overlaps.shape == (len(discs), len(discs))
    assert overlaps.max(axis=1).min() >= least_iou
