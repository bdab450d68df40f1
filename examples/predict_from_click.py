"""Click on a cell, get its mask: python examples/predict_from_click.py [PICTURE.png]."""

import sys

import numpy as np

import napari_sam
from napari_sam.io import draw_overlay, write_png
from napari_sam.tiling import percentile_contrast
from napari_sam.training.synthetic import synthetic_stack


def main(picture_path: str) -> None:
    stack, labels = synthetic_stack(shape_zyx=(1, 256, 256), seed=0)
    image = stack[0]
    row, column = np.argwhere(labels[0] == labels.max()).mean(axis=0)  # stands for a mouse click

    predictor = napari_sam.SamPredictor(napari_sam.load_model("compact"))
    embedding = predictor.encode(image)  # slow, once per image
    result = predictor.predict(  # fast, once per click
        embedding,
        points_xy=np.array([[column, row]]),
        point_labels=np.array([1]),
    )
    for iou, stability in zip(result.predicted_iou, result.stability_score, strict=True):
        print(f"candidate: predicted IoU {iou:.2f}, stability {stability:.2f}")

    mask = result.masks[result.best]  # (H, W) bool
    pixels = percentile_contrast(image).apply(image)
    print("picture:", write_png(picture_path, draw_overlay(pixels, mask.astype(np.int32))))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "predict_from_click.png")
