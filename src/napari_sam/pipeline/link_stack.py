"""The slices of a label volume, and which of their objects belong together."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import ConfigError
from napari_sam.core.region import Region
from napari_sam.io import Volume
from napari_sam.io.label_writer import LabelWriter
from napari_sam.labels.link import LinkRule, SliceLinker, number_chains, relabel_slice
from napari_sam.pipeline.events import SliceDone
from napari_sam.pipeline.link_config import LinkConfig

__all__ = ["LabelStack", "LinkedSlices", "SliceLinked", "link_axis", "link_stack", "write_linked"]


@dataclass(frozen=True)
class SliceLinked:
    """One slice is linked to those before; nothing of it is written yet.

    Attributes
    ----------
    slice_number : int
        Position in this run, from 0.
    position : tuple of int
        Index along the axes before YX.
    n_objects : int
        Objects in the slice.
    n_linked : int
        How many of them go on from earlier slices.
    """

    slice_number: int
    position: tuple[int, ...]
    n_objects: int
    n_linked: int


@dataclass(frozen=True)
class LinkedSlices:
    """Which objects of slices belong together.

    Attributes
    ----------
    chains : tuple of ndarray of int64
        Of each slice: the chain that each of its objects belongs to, by label.
    new_ids : ndarray of int64
        Id of each chain; 0 for one that is dropped.
    """

    chains: tuple[NDArray[np.int64], ...]
    new_ids: NDArray[np.int64]

    @property
    def n_objects(self) -> int:
        """Objects of the volume."""
        return int(self.new_ids.max(initial=0))

    def ids_of(self, number: int) -> NDArray[np.int64]:
        """Return the ids that the objects of a slice get.

        Parameters
        ----------
        number : int
            Of the slice in its stack.

        Returns
        -------
        ndarray of int64
            By label; 0 for an object that is dropped.
        """
        ids: NDArray[np.int64] = self.new_ids[self.chains[number]]
        return ids

    def warning(self) -> str | None:
        """Say what is wrong with the result, where something seems to be."""
        n_seen = sum(map(len, self.chains))
        if n_seen == 0:
            return "There is no object in the labels."
        if self.n_objects == 0:
            return (
                "All objects were dropped: none is seen in as many slices as `--min-extent` asks."
            )
        if n_seen == len(self.new_ids) and len(self.chains) > 1:
            return "No object was linked to one of another slice. Lower `--min-iou`."
        return None


class LabelStack:
    """The slices of a label volume in the order in which they are linked.

    Parameters
    ----------
    volume : Volume
        Labels; stays open.
    config : LinkConfig

    Raises
    ------
    ConfigError
        When the labels lack the axis along which to link.
    """

    def __init__(self, volume: Volume, config: LinkConfig) -> None:
        self.volume = volume
        lengths = dict(zip(volume.axes, volume.shape, strict=True))
        self.axes = volume.axes.replace("S", "")
        self.shape = tuple(lengths[axis] for axis in self.axes)
        self.axis = link_axis(volume.axes, config)
        self.stacks = list(_stacks(self.axes[:-2], self.axis, lengths))
        self.positions = [position for stack in self.stacks for position in stack]
        self.n_slices = len(self.positions)

    @property
    def whole_yx(self) -> Region:
        """Rows and columns of a slice."""
        return Region.whole(self.shape[-2:])

    def of_axes(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pick the values of the label image's axes from those of the volume's.

        Parameters
        ----------
        values : tuple
            One per axis of the volume.

        Returns
        -------
        tuple
        """
        return tuple(values[self.volume.axes.index(axis)] for axis in self.axes)

    def read(self, position: tuple[int, ...]) -> NDArray[Any]:
        """Read one slice.

        Parameters
        ----------
        position : tuple of int
            Index along the axes before YX.

        Returns
        -------
        ndarray of int, shape (H, W)
        """
        spans = {axis: (i, i + 1) for axis, i in zip(self.axes, position, strict=False)}
        spans |= {"Y": (0, self.shape[-2]), "X": (0, self.shape[-1]), "S": (0, 1)}
        chosen = [spans[axis] for axis in self.volume.axes]
        region = Region(tuple(a for a, _ in chosen), tuple(b for _, b in chosen))
        return self.volume.read(region).reshape(self.shape[-2:])


def _stacks(axes: str, link_axis: str, lengths: dict[str, int]) -> Iterator[list[tuple[int, ...]]]:
    """Yield the positions of each stack of slices that are linked to each other."""
    others = [axis for axis in axes if axis != link_axis]
    for place in product(*(range(lengths[axis]) for axis in others)):
        index = dict(zip(others, place, strict=True))
        steps = [{**index, link_axis: i} for i in range(lengths[link_axis])]
        yield [tuple(step[axis] for axis in axes) for step in steps]


def link_axis(axes: str, config: LinkConfig) -> str:
    """Choose the axis along which slices are linked.

    Parameters
    ----------
    axes : str
        Of the labels.
    config : LinkConfig

    Returns
    -------
    str
        ``"Z"`` or ``"T"``.

    Raises
    ------
    ConfigError
        When the labels lack it.
    """
    axis = config.axis or ("Z" if "Z" in axes else "T")
    if axis not in axes:
        raise ConfigError(
            f"The labels have the axes {axes}, and {axis} is not among them",
            rule="Slices are linked along an axis that the labels have: Z or T",
            cure="Choose the other of the two, or say with `--axes` what the axes are: `ZYX`",
        )
    return axis


def link_stack(stack: LabelStack, config: LinkConfig) -> Generator[SliceLinked, None, LinkedSlices]:
    """Read all slices, and find out which of their objects belong together.

    Parameters
    ----------
    stack : LabelStack
    config : LinkConfig

    Yields
    ------
    SliceLinked
        After each slice.

    Returns
    -------
    LinkedSlices
    """
    scale = dict(zip(stack.volume.axes, stack.volume.scale, strict=True))
    rule = LinkRule(config.min_iou, config.max_gap, config.max_shift, (scale["Y"], scale["X"]))
    linker = SliceLinker(rule)
    chains: list[NDArray[np.int64]] = []
    for positions in stack.stacks:
        linker.restart()
        for position in positions:
            n_before = linker.n_chains
            found = linker.add(stack.read(position))
            n_linked = len(found) - (linker.n_chains - n_before)
            yield SliceLinked(len(chains), position, len(found), n_linked)
            chains.append(found)
    new_ids = number_chains(chains, linker.n_chains, min_extent=config.min_extent)
    return LinkedSlices(tuple(chains), new_ids)


def write_linked(
    stack: LabelStack, writer: LabelWriter, linked: LinkedSlices
) -> Generator[SliceDone, None, None]:
    """Write all slices with the ids of their objects in the volume.

    Parameters
    ----------
    stack : LabelStack
    writer : LabelWriter
        Of the output; it is not marked finished here.
    linked : LinkedSlices

    Yields
    ------
    SliceDone
        After each slice.
    """
    for number, position in enumerate(stack.positions):
        ids = linked.ids_of(number)
        labels = relabel_slice(stack.read(position), ids.astype(writer.dtype))
        writer.write_block(position, stack.whole_yx, labels)
        writer.write_pyramid(position)
        yield SliceDone(number, position, int(np.count_nonzero(ids)))
