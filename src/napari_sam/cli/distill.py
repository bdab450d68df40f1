"""``napari-sam distill``: train a small image encoder after a large model's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from napari_sam.cli.training_runs import run_options, run_progress, with_options

if TYPE_CHECKING:
    from napari_sam.training import DistillConfig

__all__ = ["distill"]


@click.command()
@run_options
def distill(
    source: Path, data: Path | None, output: Path | None, device: str | None, threads: int | None
) -> None:
    """Train an image encoder to give a teacher's embeddings, as SOURCE, a TOML file, says.

    The teacher encodes each image once. Progress is saved every few minutes and on Ctrl-C; the
    same command goes on. At the end model.safetensors is in the run's folder: the new image encoder
    with the teacher's prompt encoder and mask decoder.
    """
    from napari_sam.training.distill_config import load_distill_config

    _run(with_options(load_distill_config(source), data, output, device, threads))


def _run(options: DistillConfig) -> None:
    from napari_sam.training import (
        DistillStepDone,
        Started,
        Stopped,
        TeacherEncoded,
        export_model,
    )
    from napari_sam.training import distill as distill_events

    events = distill_events(options)
    with run_progress(events) as progress:
        for event in events:
            if isinstance(event, Started):
                progress.say_start(event)
            elif isinstance(event, TeacherEncoded):
                progress.show("teacher's embeddings", event.done, event.total)
            elif isinstance(event, DistillStepDone):
                figures = f"embedding {event.embedding_loss:.3g}"
                if options.mask_weight > 0:
                    figures += f"  mask {event.mask_loss:.3g}"
                progress.show("training", event.iteration, options.iterations, figures)
            elif isinstance(event, Stopped):
                target = event.checkpoint.parent / "model.safetensors"
                path = export_model(event.checkpoint, target, half=False)
                progress.console.print(f"Model: {path}")
