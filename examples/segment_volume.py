"""Segment a stack from file to file: python examples/segment_volume.py [PICTURE.png]."""

import sys
import tempfile
from pathlib import Path

import tifffile
import zarr

import napari_sam
from napari_sam.io import draw_overlay, montage, write_png
from napari_sam.pipeline import Finished, SliceDone
from napari_sam.tiling import percentile_contrast
from napari_sam.training.synthetic import synthetic_stack


def main(picture_path: str, folder: Path) -> None:
    stack, _labels = synthetic_stack(shape_zyx=(3, 256, 256), seed=0)
    source, target = folder / "stack.ome.tif", folder / "labels.ome.zarr"
    tifffile.imwrite(source, stack, metadata={"axes": "ZYX"})

    config = napari_sam.SegmentConfig(model="compact", device="auto")
    for event in napari_sam.segment_volume(source, target, config):  # stop by leaving the loop
        if isinstance(event, SliceDone | Finished):
            print(event)

    labels = zarr.open_group(target, mode="r")["0"][:]  # (Z, Y, X), the full resolution
    pixels = percentile_contrast(stack.ravel()).apply(stack)  # one contrast for all slices
    pictures = [draw_overlay(pixels[z], labels[z]) for z in range(len(stack))]
    print("picture:", write_png(picture_path, montage(pictures)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else "segment_volume.png", Path(temporary))
