"""What limits the compact model on one kind of image: how many there are, its size, or its steps.

    python benchmarks/limits.py DATA OUTPUT [--group usiigaci] [--max-diameter 55] [--steps 600]

Trains small runs from random weights on the training images of one group of DATA: with a part of
the images, with narrower and wider models, and one with all images and the shipped widths. Each
is scored by one click (the best of its three masks) and one box on the same crops of the
validation split, and on crops of the images that it learned from; the gap between the two is what
more images could close.
Runs that are in OUTPUT/limits.csv already are not done again, so that the script may be stopped.
OUTPUT/limits.png shows the three curves.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_sam.model.compact_encoder import build_compact_sam
from napari_sam.model.sam import Sam
from napari_sam.training import TrainConfig
from napari_sam.training.augment import TrainingImage
from napari_sam.training.batches import BatchSource, load_training_images
from napari_sam.training.checkpoint import MovingAverage
from napari_sam.training.crop_frame import CropEncoder
from napari_sam.training.optimization import begin_step, descend, parameter_groups
from napari_sam.training.step import training_losses
from napari_sam.training.validation import ValidationCrop, draw_validation_crops, validate

WIDTHS = (24, 48, 96, 160, 192)
"""Channels of the shipped encoder."""

SHARES = (0.125, 0.25, 0.5, 1.0)
SCALES = (0.5, 0.75, 1.0, 1.5)
SCORED_OBJECTS = 120


@dataclasses.dataclass(frozen=True)
class Row:
    """Scores of one run after `steps`, on new images and on those that it learned from."""

    images: int
    width: float
    parameters: int
    steps: int
    click: float
    box: float
    train_click: float
    train_box: float


def build(width: float) -> Sam:
    """Build the model with a multiple of the channels of the shipped encoder."""
    torch.manual_seed(0)
    widths = tuple(32 * max(round(channels * width / 32), 1) for channels in WIDTHS[2:])
    narrow = tuple(8 * max(round(channels * width / 8), 1) for channels in WIDTHS[:2])
    return build_compact_sam(widths=(*narrow, *widths))  # type: ignore[arg-type]


def learn(
    images: list[TrainingImage], validation: list[ValidationCrop], width: float, config: TrainConfig
) -> Iterator[Row]:
    """Train a model and score it every `config.validate_every` steps."""
    sam = build(width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = sum(parameter.numel() for parameter in sam.parameters())
    source = BatchSource(images, config)
    encoder = CropEncoder(sam, config.crop_size, is_frozen=False)
    optimizer = torch.optim.AdamW(parameter_groups(sam, config.weight_decay))
    average = MovingAverage(sam, config.ema_decay)
    learned = draw_validation_crops(images, config.crop_size, SCORED_OBJECTS)
    for step in range(config.iterations):
        begin_step(sam, optimizer, step, config)
        rng = np.random.default_rng([config.seed, step, 1])
        losses = training_losses(sam, source.batch(step), config, rng, encoder)
        descend(losses.total, sam, optimizer, step)
        average.update(sam, step)
        if (step + 1) % config.validate_every == 0:
            own = {name: value.clone() for name, value in sam.state_dict().items()}
            sam.load_state_dict(average.state)
            (new,) = validate(sam.eval(), validation).values()
            (old,) = validate(sam, learned).values()
            sam.load_state_dict(own)
            scores = (new.click_best, new.box, old.click_best, old.box)
            yield Row(len(images), width, parameters, step + 1, *(round(x, 4) for x in scores))


def thin(images: list[TrainingImage], share: float) -> list[TrainingImage]:
    """Take a share of the images, spread evenly."""
    count = max(round(len(images) * share), 1)
    return [images[number] for number in np.linspace(0, len(images) - 1, count).astype(int)]


def read_rows(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = {"images": int, "parameters": int, "steps": int}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(**{name: kinds.get(name, float)(value) for name, value in row.items()})
            for row in csv.DictReader(file)
        ]


def add_row(path: Path, row: Row) -> None:
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if is_new:
            writer.writerow([field.name for field in dataclasses.fields(Row)])
        writer.writerow(dataclasses.astuple(row))


def draw(rows: list[Row], steps: int, target: Path) -> None:
    """Draw one panel a limit: images, parameters, steps."""
    full = max(row.images for row in rows)
    ended = [row for row in rows if row.steps == steps]
    panels = {
        "images": ("training images", [row for row in ended if row.width == 1]),
        "parameters": ("parameters", [row for row in ended if row.images == full]),
        "steps": ("steps", [row for row in rows if row.images == full and row.width == 1]),
    }
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (field, (label, shown)) in zip(
        figure.subplots(1, 3, sharey=True), panels.items(), strict=True
    ):
        shown.sort(key=lambda row: getattr(row, field))
        x = [getattr(row, field) for row in shown]
        for kind, color in (("click", "tab:blue"), ("box", "tab:orange")):
            new = [getattr(row, kind) for row in shown]
            old = [getattr(row, f"train_{kind}") for row in shown]
            axes.plot(x, new, color=color, marker="o", label=f"{kind}, new images")
            axes.plot(x, old, color=color, marker=".", linestyle=":", label=f"{kind}, learned ones")
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{value / 1e6:.1f} M" if value > 1e5 else str(value) for value in x])
        axes.minorticks_off()
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("mean IoU")
    figure.axes[0].legend(fontsize="small")
    figure.savefig(target, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--group", default="usiigaci")
    parser.add_argument("--max-diameter", type=float, default=55.0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.output.mkdir(parents=True, exist_ok=True)
    table = given.output / "limits.csv"

    def load(split: str) -> list[TrainingImage]:
        images = load_training_images(given.data, split)  # type: ignore[arg-type]
        images = [image for image in images if image.group.startswith(given.group)]
        return [image for image in images if image.diameter <= given.max_diameter]

    config = TrainConfig(
        data="", output="", iterations=given.steps, crop_size=128, objects_per_image=4,
        extra_round_probability=0.0, validate_every=given.steps // 6, warp_fraction=0.5,
    )  # fmt: skip
    images = load("train")
    validation = draw_validation_crops(load("val"), config.crop_size, SCORED_OBJECTS)
    runs = [(1.0, 1.0), *((share, 1.0) for share in SHARES[:-1])]
    runs += [(1.0, scale) for scale in SCALES if scale != 1]
    for share, width in runs:
        chosen = thin(images, share)
        done = {(row.images, row.width) for row in read_rows(table) if row.steps == given.steps}
        if (len(chosen), width) in done:
            continue
        for row in learn(chosen, validation, width, config):
            add_row(table, row)
            print(row, flush=True)
    draw(read_rows(table), given.steps, given.output / "limits.png")


if __name__ == "__main__":
    main()
