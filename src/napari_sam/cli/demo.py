"""``napari-sam demo``: the main job on a sample stack, from pixels to a picture of the result."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_sam.core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_sam.pipeline import Event

__all__ = ["demo"]

SAMPLE_SHAPE_ZYX = (5, 256, 256)


@click.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("napari-sam-demo"),
    show_default=True,
    help="Folder for the sample stack, its labels and the picture.",
)
@click.option("--no-viewer", is_flag=True, help="Only write the picture, open no napari window.")
def demo(output: Path, no_viewer: bool) -> None:
    """Segment a sample stack with the shipped model, and show it.

    Makes a small stack of synthetic nuclei, segments every object in it, writes the labels as
    OME-Zarr and a picture of them, and opens napari where there is a screen.
    """
    from napari_sam.pipeline import SegmentConfig, segment_volume

    stack_path = _write_sample(output)
    labels_path = output / "labels.ome.zarr"
    config = SegmentConfig(model="compact", overwrite=True)
    _show_progress(segment_volume(stack_path, labels_path, config))
    click.echo(f"labels:  {labels_path.resolve()}")
    picture_path = _draw(stack_path, labels_path, output / "overlay.png")
    click.echo(f"picture: {picture_path.resolve()}")
    if not no_viewer and _has_screen() and importlib.util.find_spec("napari"):
        _open_viewer(stack_path, labels_path)


def _write_sample(folder: Path) -> Path:
    """Write the sample stack into the folder, and return its path."""
    import tifffile

    from napari_sam.training.synthetic import synthetic_stack

    stack, _labels = synthetic_stack(shape_zyx=SAMPLE_SHAPE_ZYX, seed=0)
    path = folder / "stack.ome.tif"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, stack, metadata={"axes": "ZYX"})
    except OSError as error:
        raise OutputError(
            f"The sample {path} could not be written: {error.strerror or error}",
            rule="The demo needs a folder that may be written to, and a few MB on the disk",
            cure="Choose another folder with --output",
        ) from error
    depth, height, width = stack.shape
    click.echo(f"sample:  {path.resolve()} ({depth} slices of {height} x {width} pixels)")
    return path


def _show_progress(events: Iterable[Event]) -> None:
    """Run the segmentation: a bar while it works, then a line per slice and the sum."""
    from rich.console import Console
    from rich.progress import Progress

    from napari_sam.pipeline import Finished, Planned, SliceDone, TileDone, Warned

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("segmenting", total=None)
        for event in events:
            match event:
                case Planned(n_slices=n_slices, n_tiles_per_slice=n_tiles):
                    progress.update(bar, total=n_slices * n_tiles)
                case TileDone():
                    progress.advance(bar)
                case SliceDone(slice_number=number, n_objects=n_objects):
                    click.echo(f"slice {number}: {n_objects} objects")
                case Warned(message=message):
                    click.echo(f"Warning: {message}", err=True)
                case Finished(n_objects=n_objects, n_slices=n_slices, seconds=seconds):
                    per_slice = seconds / max(n_slices, 1)
                    click.echo(
                        f"total:   {n_objects} objects in {n_slices} slices, "
                        f"{seconds:.1f} s ({per_slice:.2f} s per slice)"
                    )
                case _:
                    pass


def _draw(image_path: Path, labels_path: Path, picture_path: Path) -> Path:
    """Draw every slice with its labels side by side; return the path of the picture."""
    from contextlib import closing

    from napari_sam.core.region import Region
    from napari_sam.io import draw_overlay, montage, open_volume, write_png
    from napari_sam.tiling import percentile_contrast

    with closing(open_volume(image_path)) as volume:
        image = volume.read(Region.whole(volume.shape))
    with closing(open_volume(labels_path)) as volume:
        labels = volume.read(Region.whole(volume.shape))
    contrast = percentile_contrast(image.ravel())
    pictures = [
        draw_overlay(contrast.apply(slice_yx), labels_yx)
        for slice_yx, labels_yx in zip(image, labels, strict=True)
    ]
    return write_png(picture_path, montage(pictures))


def _has_screen() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open_viewer(image_path: Path, labels_path: Path) -> None:
    """Show the result in napari, in a process of its own; come back when the window is closed."""
    click.echo("napari opens now; close its window to end the demo.")
    command = [sys.executable, "-m", "napari_sam._napari.viewer"]
    done = subprocess.run([*command, str(image_path), str(labels_path)], check=False)
    if done.returncode != 0:
        click.echo(
            f"napari could not show the result (exit status {done.returncode}, see above); "
            "the picture shows it as well.",
            err=True,
        )
