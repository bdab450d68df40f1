"""Link the labels of slices into 3D objects or tracks: a label image on disk in, another one out.

The volume is read twice, slice by slice: first to learn which objects belong together, then to
write them with their new ids. In between only a number per object and slice is held.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.axes import guess_axes, normalize_axes
from napari_sam.core.errors import ConfigError, InputError, OutputError
from napari_sam.core.region import Region
from napari_sam.io import Volume, open_volume
from napari_sam.io.label_layout import LabelLayout, NgffVersion
from napari_sam.io.label_store import is_label_image, listed_labels
from napari_sam.io.label_writer import LabelWriter, check_target, set_aside
from napari_sam.io.ome_zarr import Multiscale, read_multiscale
from napari_sam.labels.link import LinkRule, SliceLinker, number_chains, relabel_slice
from napari_sam.pipeline.events import Finished, SliceDone, Warned
from napari_sam.pipeline.plan import volume_files
from napari_sam.pipeline.target_lock import locked

__all__ = ["LinkConfig", "LinkEvent", "LinkPlanned", "SliceLinked", "link_volume"]

EXISTS_CURE = "Choose another name, or use `--overwrite` to replace it"
IMAGE_OF_LABELS = "../../"
"""The image that the labels in its group ``labels`` belong to, where they do not say it."""


@dataclass(frozen=True)
class LinkConfig:
    """Everything that decides what a run of `link_volume` does.

    Parameters
    ----------
    axis : str, optional
        ``"Z"`` or ``"T"``: along which slices are linked. By default Z where there is a Z, each
        time by itself, and else T.
    min_iou : float
        Objects of two slices are linked when their IoU is higher.
    max_gap : int
        Slices in which an object may be missing between two in which it is seen. None by default:
        an object in two parts is harder to notice than two objects.
    max_shift : float, optional
        How far the centre of an object may move from slice to slice, in the unit of the pixel size.
    min_extent : int
        Objects seen in fewer slices are dropped.
    axes : str, optional
        Axes of the input in the order of the file, when the file does not say.
    ngff_version : str
        ``0.5`` or ``0.4``.
    overwrite : bool
        Replace an existing store.

    Raises
    ------
    ConfigError
        When a value is out of range.
    """

    axis: str | None = None
    min_iou: float = 0.5
    max_gap: int = 0
    max_shift: float | None = None
    min_extent: int = 1
    axes: str | None = None
    ngff_version: NgffVersion = "0.5"
    overwrite: bool = False

    def __post_init__(self) -> None:
        LinkRule(self.min_iou, self.max_gap, self.max_shift)  # says what is wrong
        if self.axis not in (None, "Z", "T"):
            raise ConfigError(
                f"The axis {self.axis!r} was given",
                rule="Slices are linked along Z or along T",
                cure="Use `--axis Z` or `--axis T`",
            )
        if self.min_extent < 1:
            raise ConfigError(
                f"A smallest extent of {self.min_extent} slices was given",
                rule="An object is seen in one slice at least",
                cure="Use for example `--min-extent 2`",
            )


@dataclass(frozen=True)
class LinkPlanned:
    """What will be done; always the first event.

    Attributes
    ----------
    axes : str
        Axes of the label image.
    shape : tuple of int
        Shape of the label image.
    axis : str
        Letter of the axis along which slices are linked.
    n_slices : int
        Slices in all. Each is linked, and later written.
    """

    axes: str
    shape: tuple[int, ...]
    axis: str
    n_slices: int


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


LinkEvent = LinkPlanned | SliceLinked | SliceDone | Warned | Finished


def link_volume(
    source: str | Path, target: str | Path, config: LinkConfig | None = None
) -> Generator[LinkEvent, None, None]:
    """Link the labels of slices into objects of a volume or tracks, from disk to disk.

    A generator: work is done while it is iterated. First every slice gives a SliceLinked, then a
    SliceDone when it is written. Closing it, or Ctrl-C, stops there; then nothing is left of the
    output, and a store that it should have replaced is as it was. Who leaves it waiting has paused
    it. It holds ``max_gap + 2`` slices, and a few numbers per object of a slice.

    Parameters
    ----------
    source : str or Path
        Labels that :func:`napari_sam.io.open_volume` opens: an OME-Zarr image-label, or integers in
        a TIFF or another format. Ids of different slices need not differ. It is only read.
    target : str or Path
        Directory of the OME-Zarr image-label to write. It has the axes, pixel sizes, units and
        position of the source, and names the same image; ids are 1..n in the order in which the
        objects first appear.
    config : LinkConfig, optional

    Yields
    ------
    LinkEvent
        LinkPlanned first, Finished last.

    Raises
    ------
    InputError
        When the source holds no labels, is unfinished, or changes meanwhile.
    ConfigError
        When it lacks the axis, or its axes are not those given.
    OutputError
        When the output exists, cannot be written, or is being written by another process.
    """
    source, target = Path(source), Path(target)
    config = config or LinkConfig()
    begun = time.monotonic()
    check_target(target, overwrite=config.overwrite, cure=EXISTS_CURE)
    with closing(open_volume(source, config.axes)) as volume:
        for path in (source, *volume_files(volume)):
            _check_apart(path, target)
        multiscale = read_multiscale(source) if volume.is_ngff else None
        _check_source(source, volume, multiscale)
        stack = _Stack(volume, config)
        yield LinkPlanned(stack.axes, stack.shape, stack.axis, stack.n_slices)
        with locked(target):
            # another run may have made it while this one waited at its plan
            check_target(target, overwrite=config.overwrite, cure=EXISTS_CURE)
            chains, new_ids = yield from _link(stack, config)
            n_objects = int(new_ids.max(initial=0))
            dtype = "uint32" if n_objects <= np.iinfo(np.uint32).max else "uint64"
            with set_aside(target):
                writer = _create(stack, multiscale, dtype, target, config)
                yield from _write(stack, writer, chains, new_ids.astype(dtype))
                writer.finish()
    if n_objects == 0:
        yield Warned(_why_empty(chains))
    elif sum(map(len, chains)) == len(new_ids) and stack.n_slices > 1:
        yield Warned("No object was linked to one of another slice. Lower `--min-iou`.")
    yield Finished(target, n_objects, stack.n_slices, time.monotonic() - begun)


class _Stack:
    """The slices of a label volume in the order in which they are linked."""

    def __init__(self, volume: Volume, config: LinkConfig) -> None:
        self.volume = volume
        lengths = dict(zip(volume.axes, volume.shape, strict=True))
        self.axes = volume.axes.replace("S", "")
        self.shape = tuple(lengths[axis] for axis in self.axes)
        self.axis = _link_axis(volume, config)
        self.stacks = list(_stacks(self.axes[:-2], self.axis, lengths))
        self.positions = [position for stack in self.stacks for position in stack]
        self.n_slices = len(self.positions)

    @property
    def whole_yx(self) -> Region:
        """Rows and columns of a slice."""
        return Region.whole(self.shape[-2:])

    def of_axes(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pick the values of the label image's axes from those of the volume's."""
        return tuple(values[self.volume.axes.index(axis)] for axis in self.axes)

    def read(self, position: tuple[int, ...]) -> NDArray[Any]:
        """Read one slice, (H, W)."""
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


def _link_axis(volume: Volume, config: LinkConfig) -> str:
    axis = config.axis or ("Z" if "Z" in volume.axes else "T")
    if axis not in volume.axes:
        raise ConfigError(
            f"The labels {volume.path} have the axes {volume.axes}, and {axis} is not among them",
            rule="Slices are linked along an axis that the labels have: Z or T",
            cure="Choose another with `--axis`, or say with `--axes` what the axes are: `ZYX`",
        )
    return axis


def _check_source(source: Path, volume: Volume, multiscale: Multiscale | None) -> None:
    is_color = dict(zip(volume.axes, volume.shape, strict=True)).get("S", 1) > 1
    if volume.dtype.kind not in "ui" or is_color:
        found = "colours" if is_color else f"numbers of type {volume.dtype}"
        raise InputError(
            f"The labels {source} hold {found}",
            rule="Label ids are whole numbers, one for each object",
            cure="Give a label image; number the objects of a mask first, such as with "
            "`skimage.measure.label`",
        )
    if multiscale is None:
        return
    names = [] if is_label_image(multiscale) else listed_labels(source / "labels")
    if names:
        raise InputError(
            f"{source} is an image, which has labels of its own",
            rule="Labels are linked, not intensities",
            cure=f"Give the path of its labels, such as {source / 'labels' / names[0]}",
        )
    if multiscale.state == "unfinished":
        raise InputError(
            f"The labels {source} are marked unfinished",
            rule="Only labels that are complete are linked",
            cure="Complete them first, with `napari-sam segment` and `--resume`, or make them anew",
        )


def _check_apart(source: Path, target: Path) -> None:
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(
            f"The output {target} and the input {source} lie one in the other",
            rule="Linked labels are written beside the labels that they are made from",
            cure="Choose another name for the output, in another folder",
        )


def _link(
    stack: _Stack, config: LinkConfig
) -> Generator[LinkEvent, None, tuple[list[NDArray[np.int64]], NDArray[np.int64]]]:
    """Read all slices; return the chains of their objects, and the id of each chain."""
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
    return chains, number_chains(chains, linker.n_chains, min_extent=config.min_extent)


def _write(
    stack: _Stack,
    writer: LabelWriter,
    chains: list[NDArray[np.int64]],
    new_ids: NDArray[Any],
) -> Generator[LinkEvent, None, None]:
    for number, (position, in_slice) in enumerate(zip(stack.positions, chains, strict=True)):
        ids = new_ids[in_slice]
        writer.write_block(position, stack.whole_yx, relabel_slice(stack.read(position), ids))
        writer.write_pyramid(position)
        yield SliceDone(number, position, int(np.count_nonzero(ids)))


def _create(
    stack: _Stack,
    multiscale: Multiscale | None,
    dtype: str,
    target: Path,
    config: LinkConfig,
) -> LabelWriter:
    letters = _file_axes(multiscale, config) if multiscale else ""
    at = [letters.index(axis) for axis in stack.axes] if letters else []
    layout = LabelLayout(
        axes=stack.axes,
        shape=stack.shape,
        scale=stack.of_axes(stack.volume.scale),
        units=stack.of_axes(stack.volume.units),
        ngff_version=config.ngff_version,
        translate=tuple(multiscale.translate[i] for i in at) if multiscale else None,
        names=tuple(multiscale.names[i] for i in at) if multiscale else None,
        dtype=dtype,
    )
    source_image = _source_image(multiscale, target) if multiscale else None
    return LabelWriter.create(target, layout, source_image=source_image)


def _file_axes(multiscale: Multiscale, config: LinkConfig) -> str:
    """Letter of each axis in the order of the file, which need not be ours."""
    shape = multiscale.levels[0].shape
    if config.axes is not None:
        return normalize_axes(config.axes, len(shape))
    hint = "".join(name if len(name) == 1 else "?" for name in multiscale.names)
    return guess_axes(shape, hint)


def _source_image(multiscale: Multiscale, target: Path) -> str | None:
    """Say from the output where the image lies that the source's labels belong to."""
    stated = multiscale.attributes.get("image-label", {}).get("source", {}).get("image")
    labels = multiscale.path.absolute()
    if stated is None and labels.name in listed_labels(labels.parent):
        stated = IMAGE_OF_LABELS
    if not isinstance(stated, str) or "://" in stated:
        return stated if isinstance(stated, str) else None
    image = (labels / stated).resolve()
    try:
        return Path(os.path.relpath(image, target.resolve())).as_posix()
    except ValueError:  # another drive on Windows: no relative path leads there
        return None


def _why_empty(chains: list[NDArray[np.int64]]) -> str:
    if any(map(len, chains)):
        return "All objects were dropped: none is seen in as many slices as `--min-extent` asks."
    return "There is no object in the labels."
