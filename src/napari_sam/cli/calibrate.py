"""``napari-sam calibrate``: make the predicted IoU of a model what it says."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["calibrate"]


@click.command()
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), required=True,
    help="The .safetensors file to write.",
)  # fmt: skip
@click.option("--split", help="Rows of the index with this split, such as train.")
@click.option("--max-images", type=click.IntRange(min=1), help="Images a group at most.")
@click.option(
    "--max-objects", type=click.IntRange(min=1), default=40, show_default=True,
    help="Objects an image at most that are prompted for.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def calibrate(
    model: str,
    data: Path,
    output: Path,
    split: str | None,
    max_images: int | None,
    max_objects: int,
    device: str,
) -> None:
    """Fit the predicted IoU of MODEL, the compact one, to the true IoU on DATA.

    MODEL is a name or a file, DATA a folder of labelled images: an index.csv, or images/ and
    labels/ with files of the same names. Masks stay as they are, and so does which of three is
    chosen; what changes is the IoU that they promise.
    """
    from rich.console import Console
    from rich.progress import track

    from napari_sam.core.errors import ConfigError
    from napari_sam.evaluation import fit_iou_calibration, list_pairs, rate_images
    from napari_sam.model import load_model
    from napari_sam.predict import SamPredictor
    from napari_sam.training.export import export_calibrated, require_calibratable

    if output.suffix != ".safetensors":
        raise ConfigError(
            f"The model was to be written to {output}",
            rule="The name of a model file ends in .safetensors",
            cure="Give --output such a name",
        )
    console = Console()
    pairs = list_pairs(data, split=split)
    sam = load_model(model, device=device)
    require_calibratable(sam)
    sam.mask_decoder.iou_calibration = None  # what it predicts by itself is to be mapped
    rated = rate_images(SamPredictor(sam), pairs, max_images=max_images, max_objects=max_objects)
    values = fit_iou_calibration(
        list(track(rated, description="calibrating", total=None, console=console))
    )
    console.print(f"Model: {export_calibrated(sam, values, output)}")
