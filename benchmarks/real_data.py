"""Segment real labelled images and stacks with `segment_volume`, print SA50, draw overlays.

    python benchmarks/real_data.py DATA OUTPUT [--model compact] [--images 10] [--stacks 2]

DATA holds an index.csv as `napari-sam evaluate` reads it. Of its stacks the first ones are taken,
of its single images the validation split and what may only be evaluated on, one of each group in
turn. Sets with one labelled object per image say little here and are left out.
OUTPUT gets the labels as OME-Zarr, a picture of each (truth above, prediction below) and
scores.csv.
"""

from __future__ import annotations

import argparse
import csv
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.region import Region
from napari_sam.evaluation import PairEntry, list_pairs, segmentation_accuracy
from napari_sam.io import draw_overlay, montage, open_volume, write_png
from napari_sam.pipeline import SegmentConfig, segment_volume
from napari_sam.tiling import percentile_contrast

SHOWN_SLICES = 4


def read(path: Path, axes: str | None) -> NDArray[np.generic]:
    with closing(open_volume(path, axes)) as volume:
        return volume.read(Region.whole(volume.shape))


def choose(data: Path, n_images: int, n_stacks: int) -> list[PairEntry]:
    pairs = list_pairs(data)
    stacks = [pair for pair in pairs if pair.image_path.suffix == ".tif"][:n_stacks]
    groups: dict[str, list[PairEntry]] = {}
    for pair in pairs:
        if pair.image_path.suffix != ".tif" and pair.split != "train":
            groups.setdefault(pair.group, []).append(pair)
    images: list[PairEntry] = []
    turn = 0
    while len(images) < n_images and turn < max(map(len, groups.values())):
        # one of each group, then a second of each, and so on
        candidates = [members[turn] for members in groups.values() if turn < len(members)]
        images += [pair for pair in candidates if read(pair.label_path, None).max() > 1]
        turn += 1
    return images[:n_images] + stacks


def score(pair: PairEntry, output: Path, model: str) -> dict[str, object]:
    axes = "ZYX" if pair.image_path.suffix == ".tif" else None
    target = output / f"{pair.image_path.stem}.ome.zarr"
    begun = time.monotonic()
    for _event in segment_volume(
        pair.image_path, target, SegmentConfig(model=model, axes=axes, overwrite=True)
    ):
        pass
    seconds = time.monotonic() - begun
    image, truth = read(pair.image_path, axes), read(pair.label_path, axes)
    labels = read(target, None)
    planes = range(len(truth)) if axes else [...]
    scores = [segmentation_accuracy(labels[plane], truth[plane]) for plane in planes]
    picture = percentile_contrast(image.reshape(-1)).apply(image)
    shown = list(planes)[:: max(len(list(planes)) // SHOWN_SLICES, 1)][:SHOWN_SLICES]
    panels = [draw_overlay(picture[plane], truth[plane].astype(np.int64)) for plane in shown]
    panels += [draw_overlay(picture[plane], labels[plane].astype(np.int64)) for plane in shown]
    columns = len(shown) if axes else 2
    write_png(output / f"{pair.image_path.stem}.png", montage(panels, columns=columns))
    return {
        "file": pair.image_path.name,
        "group": pair.group,
        "slices": len(list(planes)),
        "SA50": round(float(np.mean(scores)), 4),
        "objects": int(sum(len(np.unique(labels[p])) - 1 for p in planes)),
        "true_objects": int(sum(len(np.unique(truth[p])) - 1 for p in planes)),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--stacks", type=int, default=2)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for pair in choose(arguments.data, arguments.images, arguments.stacks):
        rows.append(score(pair, arguments.output, arguments.model))
        print("  ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    with (arguments.output / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"mean SA50 over {len(rows)} files: {np.mean([row['SA50'] for row in rows]):.3f}")


if __name__ == "__main__":
    main()
