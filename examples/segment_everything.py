"""Segment every object of an image: python examples/segment_everything.py [PICTURE.png]."""

import sys

import napari_sam
from napari_sam.io import draw_overlay, write_png
from napari_sam.tiling import percentile_contrast
from napari_sam.training.synthetic import synthetic_stack


def main(picture_path: str) -> None:
    stack, _labels = synthetic_stack(shape_zyx=(1, 256, 256), seed=0)
    image = stack[0]

    sam = napari_sam.load_model("compact")
    labels = napari_sam.segment_everything(image, model=sam)  # (H, W), 0 is background
    print(f"{labels.max()} objects")

    pixels = percentile_contrast(image).apply(image)
    print("picture:", write_png(picture_path, draw_overlay(pixels, labels)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "segment_everything.png")
