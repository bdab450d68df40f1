"""Measure whether seams of tiles show: real images segmented in many tiles, and in one.

    python benchmarks/seams.py DATA OUTPUT [--images 8] [--stacks 3] [--tile 256] [--flip]

DATA holds an index.csv as `napari-sam evaluate` reads it. Of its single images those are taken that
are no part of the training split and large enough to be cut, one of each group in turn; of each
stack the `--limit` slices in its middle. Nothing is tuned on either. A stack too small to be cut is
mirrored at its sides to four tiles.

Both runs have the contrast of the whole volume. Untiled means that the model gets a slice as it is
and, where it is larger than its window, joins the embeddings of windows. The columns:

- SA50 in slices, and in 3D after `link_volume` where the objects of the truth reach over slices: of
  the untiled and the tiled labels against the truth, the second less the first, and of the two
  against each other. With --flip also the last two figures of untiled labels of the image turned
  left to right, in place of the tiled ones: how much labels change without any seam.
- breaks: per 1000 pixels along a line, the places where the label on one side differs from that on
  the other, background included. Along the *seams*, where the parts that tiles own meet; along the
  *middles* of tiles; along the *ends* of what tiles read; and along the seams' places in the
  *untiled* labels, which is the fairest comparison, as objects lie where they want. At ratios
  near 1 seams show no cut. All lines lie at multiples of 8: the bundled model's masks are drawn
  from coarser ones, so labels end more often at multiples of 4 than between, tiled or not.
- straight cuts: per 1000 pixels, how often at least 8 pixels in a row end an object at the line.

OUTPUT gets the labels as OME-Zarr: NAME.untiled and NAME.tiled, and the linked ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from real_data import choose, read

from napari_sam import load_model
from napari_sam.core.region import Region
from napari_sam.evaluation import PairEntry, list_pairs, segmentation_accuracy
from napari_sam.io import ArrayVolume, Volume, open_volume
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

Labels = NDArray[Any]
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
class Sample:
    """An image with its truths; of each the slices (n, H, W) that are taken."""

    name: str
    pixels: NDArray[Any]
    axes: str
    slices: SliceRange
    part: Any
    truths: list[Labels]


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
                    "middles": {(first + stop) // 16 * 8} if stop - first < length else set(),
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


def accuracies(found: list[Labels], truth: Labels) -> dict[str, float]:
    """Compare untiled, tiled and perhaps flipped labels with the truth and among themselves."""
    untiled, *others = found
    against_truth = [segmentation_accuracy(labels, truth) for labels in found]
    between = [segmentation_accuracy(labels, untiled) for labels in others]
    values = {"untiled": against_truth[0], "tiled": against_truth[1]}
    for name, accuracy, agreement in zip(
        ("tiled", "flipped"), against_truth[1:], between, strict=False
    ):
        values |= {f"{name} change": accuracy - against_truth[0], f"{name} both": agreement}
    return values


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
                copy = np.where(meets | (copy == 0), copy, copy + volume.max())
            volume = np.concatenate((volume, copy), axis)
        volume = np.take(volume, range(offset, offset + 2 * tile), axis)
    return volume


def middle(length: int, limit: int | None) -> SliceRange:
    count = min(limit or length, length)
    start = (length - count) // 2
    return SliceRange(start, start + count)


def segment(image: Volume, target: Path, config: SegmentConfig, segmenter: TileSegmenter) -> Labels:
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


def load(pairs: list[PairEntry], arguments: argparse.Namespace) -> Sample:
    """Read an image and its truths, of the slices that are taken."""
    path = pairs[0].image_path
    is_stack = path.suffix == ".tif"
    with closing(open_volume(path, "ZYX" if is_stack else None)) as volume:
        pixels, axes = volume.read(Region.whole(volume.shape)), volume.axes
    slices = middle(len(pixels), arguments.limit) if is_stack else SliceRange()
    part = np.s_[slices.start : slices.stop] if is_stack else np.s_[None]
    truths = [read(pair.label_path, "ZYX" if is_stack else None)[part] for pair in pairs]
    if not is_cut(truths[0].shape[1:], arguments.tile, arguments.halo):
        truths = [
            mirrored(truth.astype(np.int32), arguments.tile, is_label=True) for truth in truths
        ]
        pixels = mirrored(pixels, arguments.tile, is_label=False)
    return Sample(path.stem, pixels, axes, slices, part, truths)


def label(
    sample: Sample, arguments: argparse.Namespace, segmenter: TileSegmenter
) -> tuple[list[Labels], list[Labels]]:
    """Segment untiled, tiled and flipped; return the labels in slices, and linked ones if any."""
    whole = max(sample.truths[0].shape[1:])
    runs = {"untiled": (whole, False), "tiled": (arguments.tile, False), "flipped": (whole, True)}
    flat: list[Labels] = []
    solid: list[Labels] = []
    for name, (tile, is_turned) in runs.items():
        if name == "flipped" and not arguments.flip:
            continue
        pixels, axes = sample.pixels, sample.axes
        image = np.flip(pixels, axes.index("X")) if is_turned else pixels
        target = arguments.output / f"{sample.name}.{name}.ome.zarr"
        named = ArrayVolume(target.with_suffix(".image"), [np.ascontiguousarray(image)], axes)
        config = SegmentConfig(slices=sample.slices, tile=tile, halo=arguments.halo, overwrite=True)
        found = [segment(named, target, config, segmenter)]
        if "Z" in axes:
            found.append(linked(target, target.with_suffix(".linked.zarr")))
        for labels, listed in zip(found, (flat, solid), strict=False):
            listed.append((labels[..., ::-1] if is_turned else labels)[sample.part])
    return flat, solid


def measure(
    pairs: list[PairEntry], arguments: argparse.Namespace, segmenter: TileSegmenter
) -> Iterator[Row]:
    """Compare the labels of an image with each of its truths."""
    sample = load(pairs, arguments)
    flat, solid = label(sample, arguments, segmenter)
    lines = audit(flat[0], flat[1], arguments.tile, arguments.halo)
    for pair, truth in zip(pairs, sample.truths, strict=True):
        in_2d = mean(
            accuracies([labels[z] for labels in flat], truth[z]) for z in range(len(truth))
        )
        in_3d = accuracies(solid, truth) if solid and reaches_over_slices(truth) else None
        yield Row(pair.label_path.stem, len(truth), in_2d, in_3d, lines)


def choose_pairs(arguments: argparse.Namespace) -> list[list[PairEntry]]:
    """Choose images and stacks; several truths of one image stay together."""
    large: list[PairEntry] = []
    if arguments.images:
        for pair in choose(arguments.data, len(list_pairs(arguments.data)), 0):
            with closing(open_volume(pair.image_path)) as volume:
                sides = tuple(volume.shape[volume.axes.index(axis)] for axis in "YX")
            if is_cut(sides, arguments.tile, arguments.halo):
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
    images = {id(row.lines): row for row in rows}.values()  # one may have several truths
    for row in images:
        for place, counted in row.lines.items():
            lines[place].add(counted)
    flat = mean(row.flat for row in rows)
    n_slices = sum(row.slices for row in images)
    return Row(name, n_slices, flat, mean(solid) if solid else None, lines)


def heading(scores: list[str]) -> str:
    groups = [("SA50 in slices", scores), ("SA50 in 3D", scores)]
    groups += [("breaks", list(PLACES)), ("straight cuts", list(PLACES))]
    above = "".join(f" | {title:<{8 * len(names)}s}" for title, names in groups)
    below = "".join(" | " + "".join(f"{name:>8s}" for name in names) for _, names in groups)
    return f"{'':41s}{above}\n{'':34s}{'slices':>7s}{below}"


def shown(row: Row) -> str:
    parts = []
    for values in (row.flat, row.solid):
        missing = f"{'-':>8s}" * len(row.flat)
        parts.append("".join(f"{value:8.3f}" for value in values.values()) if values else missing)
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
    parser.add_argument("--flip", action="store_true", help="also untiled, turned left to right")
    parser.add_argument("--only", default="", help="of these, files with this in their name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    segmenter = ModelSegmenter(load_model(arguments.model), SegmentConfig().automatic)
    arguments.output.mkdir(parents=True, exist_ok=True)
    scores = ["untiled", "tiled", "change", "both"] + ["fl. chg", "fl.both"] * arguments.flip
    print(heading(scores), flush=True)
    stacks: list[Row] = []
    images: list[Row] = []
    for pairs in choose_pairs(arguments):
        for row in measure(pairs, arguments, segmenter):
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
