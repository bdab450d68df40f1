"""What skipping points of a grid saves, and what it costs in quality, on real labelled images.

    python benchmarks/skipping.py DATA [--images 3] [--side 288] [--group NAME]
        [--points-per-side 64] [--json FILE]

DATA holds an index.csv as `napari-sam evaluate` reads it. Of each group of its validation split,
some images are taken, evenly spaced, and of each the middle, where it shows an object. Everything
is segmented with all points of the grid, without those that are covered, without those in the
background, without both, and with the points that the instance head proposes: with the default
thresholds of a grid, and with those of proposals. Points and seconds count from the image embedding
on; seconds are those of the processor, so that other work on the machine does not count. Figures
are averaged per image, then per group, then over the groups.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_sam.evaluation import (
    LabelledImage,
    PairEntry,
    iter_images,
    list_pairs,
    mean_segmentation_accuracy,
    segmentation_accuracy,
)
from napari_sam.model import Sam, load_model
from napari_sam.predict import (
    ImageEmbedding,
    SamPredictor,
    everything_generator,
    records_to_labels,
)

GRID = {"mode": "grid"}
METHODS: dict[str, dict[str, Any]] = {
    "all points": GRID,
    "skip covered": GRID | {"skip_covered": True},
    "foreground only": GRID | {"foreground_only": True},
    "both": GRID | {"skip_covered": True, "foreground_only": True},
    "proposals": {"mode": "proposals"},
}
FIGURES = ("SA50", "mSA", "prompted", "seconds")


class PromptCounter:
    """Counts the points that a model is prompted with."""

    def __init__(self, sam: Sam) -> None:
        self.count = 0
        self._decode = sam.decode_above
        sam.decode_above = self._counting  # type: ignore[method-assign]

    def _counting(self, *args: Any, points: Any, **kwargs: Any) -> Any:
        self.count += len(points[0])
        return self._decode(*args, points=points, **kwargs)


def choose(data: Path, n_images: int, name: str) -> list[PairEntry]:
    """Take so many images of each group with this in its name, evenly spaced."""
    groups: dict[str, list[PairEntry]] = {}
    for pair in list_pairs(data, split="val"):
        if name in pair.group:
            groups.setdefault(pair.group, []).append(pair)
    chosen = []
    for members in groups.values():
        step = max(len(members) / n_images, 1.0)
        chosen += [members[int(i * step)] for i in range(min(n_images, len(members)))]
    return chosen


def middle(item: LabelledImage, side: int) -> LabelledImage:
    """Cut the middle out of an image."""
    starts = (max((length - side) // 2, 0) for length in item.labels.shape)
    rows, cols = (slice(start, start + side) for start in starts)
    return LabelledImage(item.name, item.group, item.image[rows, cols], item.labels[rows, cols])


def measure(
    sam: Sam,
    counter: PromptCounter,
    embedding: ImageEmbedding,
    item: LabelledImage,
    options: dict[str, Any],
) -> dict[str, float]:
    """Segment one image in one way."""
    counter.count = 0
    begun = time.process_time()
    records = everything_generator(sam, **options).generate(embedding)
    labels = records_to_labels(records, embedding.original_size_yx).labels
    return {
        "SA50": segmentation_accuracy(labels, item.labels),
        "mSA": mean_segmentation_accuracy(labels, item.labels),
        "prompted": counter.count,
        "seconds": time.process_time() - begun,
    }


def measure_all(
    sam: Sam,
    pairs: list[PairEntry],
    side: int,
    per_side: int,
    thresholds: dict[str, dict[str, float]],
) -> Iterator[dict[str, Any]]:
    """Segment each image in each way, one way after the other."""
    predictor, counter = SamPredictor(sam), PromptCounter(sam)
    for whole in iter_images(pairs):
        item = middle(whole, side)
        if not item.labels.any():
            continue
        embedding = predictor.encode(item.image)
        for name, given in thresholds.items():
            for method, options in METHODS.items():
                if method == "proposals" and not given:
                    continue  # their default thresholds are the lower ones
                grid = {} if method == "proposals" else {"points_per_side": per_side}
                figures = measure(sam, counter, embedding, item, options | grid | given)
                yield {"image": item.name, "group": item.group} | {
                    "thresholds": name,
                    "method": method,
                    **figures,
                }


def average(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average the rows of each way to segment: per group, and over the groups."""
    summary = []
    for name, method in dict.fromkeys((row["thresholds"], row["method"]) for row in rows):
        groups: dict[str, dict[str, float]] = {}
        for group in sorted({row["group"] for row in rows}):
            own = [
                row
                for row in rows
                if (row["thresholds"], row["method"], row["group"]) == (name, method, group)
            ]
            groups[group] = {key: float(np.mean([row[key] for row in own])) for key in FIGURES}
        mean = {key: float(np.mean([own[key] for own in groups.values()])) for key in FIGURES}
        summary.append({"thresholds": name, "method": method} | mean | {"groups": groups})
    return summary


def print_table(summary: list[dict[str, Any]]) -> None:
    """Print the means, then SA50 of each group and, in brackets, the points prompted."""
    groups = list(summary[0]["groups"])
    heads = ["thresholds", "points", "SA50", "mSA", "prompted", "seconds"]
    print("| " + " | ".join(heads + groups) + " |")
    print("|---|---|" + "---:|" * (4 + len(groups)))
    for row in summary:
        cells = [row["thresholds"], row["method"], f"{row['SA50']:.3f}", f"{row['mSA']:.3f}"]
        cells += [f"{row['prompted']:.0f}", f"{row['seconds']:.2f}"]
        for group in groups:
            own = row["groups"][group]
            cells.append(f"{own['SA50']:.2f} ({own['prompted']:.0f})")
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--images", type=int, default=3, help="Images of each group at most.")
    parser.add_argument("--side", type=int, default=288, help="Pixels along a side of the middle.")
    parser.add_argument("--group", default="", help="Only groups with this in their name.")
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="Where to write all figures.")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sam = load_model(arguments.model, device=arguments.device)
    lower = {"pred_iou_thresh": 0.5, "stability_score_thresh": 0.5}
    thresholds = {"default": {}, "0.5, 0.5": lower}
    rows = []
    pairs = choose(arguments.data, arguments.images, arguments.group)
    for row in measure_all(sam, pairs, arguments.side, arguments.points_per_side, thresholds):
        rows.append(row)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    if not rows:
        parser.error("no image was chosen that shows an object in its middle")
    summary = average(rows)
    print(f"{len({row['image'] for row in rows})} images")
    print_table(summary)
    if arguments.json:
        arguments.json.write_text(json.dumps({"mean": summary, "images": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
