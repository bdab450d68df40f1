"""Measure whether seams of tiles show: real images segmented in many tiles, and in one.

    python benchmarks/seams.py DATA OUTPUT [--images 8] [--stacks 3] [--limit 6] [--tile 256]

DATA holds an index.csv as `napari-sam evaluate` reads it. Of its single images those are taken that
are no part of the training split and large enough to be cut, one of each group in turn; of each
stack the `--limit` slices in its middle. Nothing is tuned on either. A stack too small to be cut is
mirrored at its sides to four tiles.

Both runs have the contrast of the whole volume. Untiled means that the model gets a slice as it is
and, where it is larger than its window, joins the embeddings of windows. The columns:

- SA50 in slices, and in 3D after `link_volume` where the objects of the truth reach over slices: of
  the untiled and the tiled labels against the truth, the second less the first, and of the two
  against each other.
- breaks: per 1000 pixels along a line, the places where the label on one side differs from that on
  the other, background included. Along the *seams*, where the parts that tiles own meet; along the
  *middles* of tiles; along the *ends* of what tiles read; and along the seams' places in the
  *untiled* labels. At ratios near 1 seams show no cut. They may only be compared over many lines:
  objects lie where they want.
- straight cuts: per 1000 pixels, how often at least 8 pixels in a row end an object at the line.

OUTPUT gets the labels as OME-Zarr: NAME.untiled and NAME.tiled, and the linked ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from real_data import choose, read

from napari_sam import load_model
from napari_sam.evaluation import PairEntry, list_pairs, segmentation_accuracy
from napari_sam.io import open_volume
from napari_sam.pipeline import (
    LinkConfig,
    ModelSegmenter,
    SegmentConfig,
    SliceRange,
    TileSegmenter,
    link_volume,
    segment_volume,
)
from napari_sam.tiling import tile_grid

Labels = NDArray[np.integer[Any]]
STRAIGHT = 8
"""Pixels in a row that end an object at a line, from which it counts as a straight cut."""
PLACES = ("seams", "middles", "ends", "untiled")


@dataclass
class Lines:
    """What was counted along lines between two rows or two columns of pixels."""

    pixels: int = 0
    breaks: int = 0
    cuts: int = 0

    def add(self, other: Lines) -> None:
        self.pixels += other.pixels
        self.breaks += other.breaks
        self.cuts += other.cuts

    def per_1000(self) -> tuple[float, float]:
        scale = 1000 / self.pixels if self.pixels else float("nan")
        return self.breaks * scale, self.cuts * scale


@dataclass
class Row:
    """The figures of one pair."""

    name: str
    slices: int
    flat: dict[str, float]
    solid: dict[str, float] | None
    lines: dict[str, Lines] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        counts = {
            place: dict(zip(("breaks", "straight cuts"), lines.per_1000(), strict=True))
            for place, lines in self.lines.items()
        }
        own = {"name": self.name, "slices": self.slices}
        return {**own, "SA50 2D": self.flat, "SA50 3D": self.solid, "per 1000 pixels": counts}


def count_line(before: Labels, after: Labels) -> Lines:
    """Compare the pixels on both sides of a line, each of shape (n,)."""
    differs = before != after
    ends = np.zeros(len(before), bool)
    for side in (before, after):
        changes = np.flatnonzero((np.diff(side) != 0) | (np.diff(differs) != 0)) + 1
        for run in np.split(np.arange(len(side)), changes):
            if len(run) >= STRAIGHT and side[run[0]] != 0 and differs[run[0]]:
                ends[run] = True  # where both sides hold an object, it is one cut
    cuts = np.count_nonzero(np.diff(ends.astype(np.int8), prepend=0) == 1)
    return Lines(len(before), int(np.count_nonzero(differs)), int(cuts))


def count_lines(plane: Labels, at_yx: tuple[Iterable[int], Iterable[int]]) -> Lines:
    """Count over the lines above given rows, and left of given columns."""
    total = Lines()
    for turned, places in zip((plane, plane.T), at_yx, strict=True):
        for place in places:
            total.add(count_line(turned[place - 1], turned[place]))
    return total


def line_places(
    shape_yx: tuple[int, int], tile: int, halo: int
) -> dict[str, tuple[set[int], set[int]]]:
    """Rows and columns of seams, of middles of tiles and of the ends of what they read."""
    tiles = tile_grid(shape_yx, tile, halo)
    found: dict[str, tuple[set[int], set[int]]] = {}
    for name in PLACES[:3]:
        found[name] = (set(), set())
        for axis, length in enumerate(shape_yx):
            for one in tiles:
                first, stop = one.write.start[axis], one.write.stop[axis]
                lines = {
                    "seams": {first, stop},
                    "middles": {(first + stop) // 2} if stop - first < length else set(),
                    "ends": {one.read.start[axis], one.read.stop[axis]},
                }
                found[name][axis].update(lines[name] - {0, length})
    return found


def audit(untiled: Labels, tiled: Labels, tile: int, halo: int) -> dict[str, Lines]:
    """Count in all slices, of arrays (n, H, W)."""
    places = line_places(tiled.shape[1:], tile, halo)
    counted = {name: Lines() for name in PLACES}
    for whole, plane in zip(untiled, tiled, strict=True):
        for name, at_yx in places.items():
            counted[name].add(count_lines(plane, at_yx))
        counted["untiled"].add(count_lines(whole, places["seams"]))
    return counted


def accuracies(untiled: Labels, tiled: Labels, truth: Labels) -> dict[str, float]:
    before, after = segmentation_accuracy(untiled, truth), segmentation_accuracy(tiled, truth)
    agreement = segmentation_accuracy(tiled, untiled)
    return {"untiled": before, "tiled": after, "tiled - untiled": after - before, "both": agreement}


def mean(values: Iterable[dict[str, float]]) -> dict[str, float]:
    listed = list(values)
    return {key: float(np.mean([one[key] for one in listed])) for key in listed[0]}


def is_cut(shape_yx: tuple[int, ...], tile: int, halo: int) -> bool:
    return max(shape_yx) > tile + 2 * halo


def mirrored(volume: NDArray[Any], tile: int, *, is_label: bool) -> NDArray[Any]:
    """Enlarge the slices of (n, H, W) to four tiles, with a seam in the middle of a copy.

    Objects that meet their mirror image are one, the others new.
    """
    for axis in (1, 2):
        side = volume.shape[axis]
        offset = (side // 2 - tile) % side
        while volume.shape[axis] < offset + 2 * tile:
            copy = np.flip(volume, axis)
            if is_label:
                meets = np.isin(copy, np.unique(np.take(volume, -1, axis)))
                copy = np.where(meets, copy, copy + volume.max())
            volume = np.concatenate((volume, copy), axis)
        volume = np.take(volume, range(offset, offset + 2 * tile), axis)
    return volume


def middle(length: int, limit: int | None) -> SliceRange:
    count = min(limit or length, length)
    start = (length - count) // 2
    return SliceRange(start, start + count)


def segment(image: Path, target: Path, config: SegmentConfig, segmenter: TileSegmenter) -> Labels:
    for _event in segment_volume(image, target, config, segmenter):
        pass
    return read(target, None)


def linked(source: Path, target: Path) -> Labels:
    for _event in link_volume(source, target, LinkConfig(overwrite=True)):
        pass
    return read(target, None)


def reaches_over_slices(truth: Labels) -> bool:
    """Tell whether objects have one id in several slices."""
    seen = [set(np.unique(plane)) - {0} for plane in truth]
    return any(one & other for one, other in pairwise(seen))


def measure(
    pairs: list[PairEntry], output: Path, arguments: argparse.Namespace, segmenter: TileSegmenter
) -> Iterator[Row]:
    """Segment an image twice, and compare with each of its truths."""
    image = pairs[0].image_path
    is_stack = image.suffix == ".tif"
    axes = "ZYX" if is_stack else None
    truths = [read(pair.label_path, axes) for pair in pairs]
    chosen = middle(len(truths[0]), arguments.limit) if is_stack else SliceRange()
    part = np.s_[chosen.start : chosen.stop] if is_stack else np.s_[None]
    truths = [truth[part] for truth in truths]
    tile, halo = arguments.tile, arguments.halo
    if not is_cut(truths[0].shape[1:], tile, halo):
        truths = [mirrored(truth.astype(np.int32), tile, is_label=True) for truth in truths]
        enlarged = output / f"{image.stem}.mirrored.tif"
        tifffile.imwrite(enlarged, mirrored(read(image, axes), tile, is_label=False))
        image = enlarged
    labels, solid = [], []
    for name, side in (("untiled", max(truths[0].shape[1:])), ("tiled", tile)):
        config = SegmentConfig(axes=axes, slices=chosen, tile=side, halo=halo, overwrite=True)
        target = output / f"{image.stem}.{name}.ome.zarr"
        labels.append(segment(image, target, config, segmenter)[part])
        if is_stack:
            solid.append(linked(target, output / f"{image.stem}.{name}.linked.ome.zarr")[part])
    lines = audit(*labels, tile, halo)
    for pair, truth in zip(pairs, truths, strict=True):
        flat = mean(accuracies(*planes) for planes in zip(*labels, truth, strict=True))
        in_3d = accuracies(*solid, truth) if is_stack and reaches_over_slices(truth) else None
        yield Row(pair.label_path.stem, len(truth), flat, in_3d, lines)


def choose_pairs(
    arguments: argparse.Namespace,
) -> list[list[PairEntry]]:
    """Choose images and stacks; several truths of one image stay together."""
    large: list[PairEntry] = []
    if arguments.images:
        for pair in choose(arguments.data, len(list_pairs(arguments.data)), 0):
            volume = open_volume(pair.image_path, None)
            sides = [n for n, axis in zip(volume.shape, volume.axes, strict=True) if axis in "YX"]
            volume.close()
            if is_cut(tuple(sides), arguments.tile, arguments.halo):
                large.append(pair)
            if len(large) == arguments.images:
                break
    stacks = [pair for pair in list_pairs(arguments.data) if pair.image_path.suffix == ".tif"]
    groups = [list(group) for _, group in groupby(stacks, key=lambda pair: pair.image_path)]
    chosen = groups[: arguments.stacks] + [[pair] for pair in large]
    return [group for group in chosen if arguments.only in group[0].image_path.stem]


def mean_row(rows: list[Row], name: str) -> Row:
    solid = [row.solid for row in rows if row.solid]
    lines = {place: Lines() for place in PLACES}
    for row in rows:
        for place, counted in row.lines.items():
            lines[place].add(counted)
    flat = mean(row.flat for row in rows)
    n_slices = sum(row.slices for row in rows)
    return Row(name, n_slices, flat, mean(solid) if solid else None, lines)


def heading() -> str:
    columns = ["untiled", "tiled", "change", "both"]
    groups = [("SA50 in slices", columns), ("SA50 in 3D", columns)]
    groups += [("breaks", list(PLACES)), ("straight cuts", list(PLACES))]
    above = "".join(f" | {title:<{8 * len(names)}s}" for title, names in groups)
    below = "".join(" | " + "".join(f"{name:>8s}" for name in names) for _, names in groups)
    return f"{'':41s}{above}\n{'':34s}{'slices':>7s}{below}"


def shown(row: Row) -> str:
    parts = []
    for values in (row.flat, row.solid):
        texts = [f"{value:8.3f}" for value in values.values()] if values else [f"{'-':>8s}"] * 4
        parts.append("".join(texts))
    counts = [row.lines[place].per_1000() for place in PLACES]
    parts += ["".join(f"{count[index]:8.1f}" for count in counts) for index in (0, 1)]
    return f"{row.name[:34]:34s}{row.slices:>7d}" + "".join(f" | {part}" for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--stacks", type=int, default=3)
    parser.add_argument("--limit", type=int, help="slices of a stack; all unless given")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--halo", type=int, default=64)
    parser.add_argument("--only", default="", help="of these, files with this in their name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    segmenter = ModelSegmenter(load_model(arguments.model), SegmentConfig().automatic)
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(heading(), flush=True)
    stacks, images = [], []
    for pairs in choose_pairs(arguments):
        for row in measure(pairs, arguments.output, arguments, segmenter):
            (stacks if pairs[0].image_path.suffix == ".tif" else images).append(row)
            print(shown(row), flush=True)
    means = [
        mean_row(rows, name)
        for name, rows in (("mean of stacks", stacks), ("mean of images", images))
        if rows
    ]
    print("\n".join(shown(row) for row in means))
    if arguments.json:
        figures = [row.figures() for row in stacks + images + means]
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
