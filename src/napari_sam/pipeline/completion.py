"""What is made of the slices of a run when all are stitched: linked labels, tables, a TIFF.

Every step can be repeated: a run that is stopped within one begins that step again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.steps import retold
from napari_sam.io import Volume, open_volume
from napari_sam.io.label_tiff import write_label_tiff
from napari_sam.io.output_files import output_errors, remove_store, sync_path
from napari_sam.io.table_file import write_table
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.events import Completing, Event, SliceDone, Warned
from napari_sam.pipeline.link_config import LinkConfig
from napari_sam.pipeline.link_stack import LabelStack, SliceLinked, link_stack, write_linked
from napari_sam.pipeline.object_notes import ObjectNotes, table_columns, table_parts
from napari_sam.pipeline.segment_target import SegmentTarget
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.tile_results import save_arrays, tile_folder

__all__ = ["RunFolder", "complete"]

T = TypeVar("T")


@dataclass(frozen=True)
class RunFolder:
    """The folder beside an output that holds what a run still needs.

    Parameters
    ----------
    target : Path
        Directory of the output.
    """

    target: Path

    @property
    def path(self) -> Path:
        """The folder ``NAME.tiles``."""
        return tile_folder(self.target)

    @property
    def notes(self) -> ObjectNotes:
        """What is known of each object."""
        return ObjectNotes(self.path / "objects")

    @property
    def unlinked(self) -> Path:
        """The labels of single slices, once the output holds linked ones."""
        return self.path / "slices.zarr"

    @property
    def linked(self) -> Path:
        """Linked labels, before they become the output."""
        return self.path / "linked.zarr"

    @property
    def linked_ids(self) -> Path:
        """Which object of the volume each object of a slice belongs to."""
        return self.path / "linked.npz"

    def mend(self) -> None:
        """Make linked labels the output, where a run was stopped in the middle of that."""
        if not self.target.exists() and self.unlinked.exists() and self.linked.exists():
            with output_errors(self.target):
                self.linked.rename(self.target)


def complete(
    target: SegmentTarget,
    slices: SliceSource,
    volume: Volume,
    config: SegmentConfig,
    n_objects: int,
) -> Generator[Event, None, int]:
    """Link, tabulate and copy the labels as it was asked for.

    Parameters
    ----------
    target : SegmentTarget
        The output; all its slices are stitched.
    slices : SliceSource
    volume : Volume
        The image.
    config : SegmentConfig
    n_objects : int
        Objects in all slices.

    Yields
    ------
    Event
        Completing, and Warned.

    Returns
    -------
    int
        Number of objects in the output.

    Raises
    ------
    OutputError
        When something cannot be written.
    """
    folder = RunFolder(target.path)
    if config.link is not None:
        n_objects = yield from _link(target, slices, volume, config.link)
    if config.tables:
        yield from _tabulate(folder, slices, volume, config)
    if config.tiff is not None:
        with closing(write_label_tiff(target.path, config.tiff, max_id=n_objects)) as copying:
            for copied in copying:
                yield Completing(f"Writing {Path(config.tiff).name}", copied.done, copied.total)
    return n_objects


def _tabulate(
    folder: RunFolder, slices: SliceSource, volume: Volume, config: SegmentConfig
) -> Generator[Event, None, None]:
    ids = None
    if config.link is not None:
        with np.load(folder.linked_ids) as file:
            ids = file["ids"]
    units = slices.of_label_axes(volume.units)[-2:]
    scale = slices.of_label_axes(volume.scale)[-2:]
    for number, table in enumerate(config.tables):
        yield Completing("Writing tables", number, len(config.tables))
        parts = table_parts(folder.notes, slices.label_axes, slices.positions, scale, units)
        rows = parts if ids is None else _with_linked_ids(parts, ids)
        write_table(Path(table), table_columns(slices.label_axes), rows)


def _with_linked_ids(
    parts: Iterator[dict[str, NDArray[Any]]], ids: NDArray[np.int64]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Name objects of slices by the object of the volume that they belong to."""
    for part in parts:
        linked = ids[part["id"].astype(np.int64) - 1]
        part["id"] = linked.astype(np.uint64)
        yield {name: values[linked > 0] for name, values in part.items()}


def _link(
    target: SegmentTarget, slices: SliceSource, volume: Volume, config: LinkConfig
) -> Generator[Event, None, int]:
    """Link the labels of the slices into a second store, and let the two change places."""
    folder = RunFolder(target.path)
    if not folder.unlinked.exists():
        remove_store(folder.linked)
        with closing(open_volume(target.path)) as labels:
            stack = LabelStack(labels, config)
            linked = yield from _shown("Linking slices", link_stack(stack, config), stack.n_slices)
            writer = target.create(slices, volume, folder.linked)
            writing = write_linked(stack, writer, linked)
            yield from _shown("Writing linked slices", writing, stack.n_slices)
        numbers = {position: number for number, position in enumerate(stack.positions)}
        ids = [linked.ids_of(numbers[position]) for position in slices.positions]
        with output_errors(target.path):
            for position in slices.positions:
                writer.sync(position)
            save_arrays(folder.linked_ids, ids=np.concatenate(ids))
            sync_path(folder.path)
            target.path.rename(folder.unlinked)
            folder.mend()
        if warning := linked.warning():
            yield Warned(warning)
    with np.load(folder.linked_ids) as file:
        return int(file["ids"].max(initial=0))


def _shown(
    what: str, steps: Generator[SliceLinked | SliceDone, None, T], total: int
) -> Generator[Event, None, T]:
    return retold(steps, lambda step: Completing(what, step.slice_number + 1, total))
