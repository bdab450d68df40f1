"""Link the labels of slices into 3D objects or tracks: a label image on disk in, another one out.

The volume is read twice, slice by slice: first to learn which objects belong together, then to
write them with their new ids. In between only a number per object and slice is held.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sam.core.axes import guess_axes, normalize_axes
from napari_sam.core.errors import InputError
from napari_sam.io import Volume, open_volume
from napari_sam.io.label_layout import LabelLayout
from napari_sam.io.label_store import is_label_image, listed_labels
from napari_sam.io.label_writer import LabelWriter
from napari_sam.io.ome_zarr import Multiscale, read_multiscale
from napari_sam.io.output_files import check_apart, check_target, set_aside
from napari_sam.pipeline.events import Finished, SliceDone, Warned
from napari_sam.pipeline.link_config import LinkConfig
from napari_sam.pipeline.link_stack import LabelStack, SliceLinked, link_stack, write_linked
from napari_sam.pipeline.plan import volume_files
from napari_sam.pipeline.target_lock import locked

__all__ = ["LinkConfig", "LinkEvent", "LinkPlanned", "SliceLinked", "link_volume"]

EXISTS_CURE = "Choose another name, or use `--overwrite` to replace it"
APART_RULE = "Linked labels are written beside the labels that they are made from"
APART_CURE = "Choose another name for the output, in another folder"
IMAGE_OF_LABELS = "../../"
"""The image that the labels in its group ``labels`` belong to, where they do not say it."""


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
            check_apart(path, target, rule=APART_RULE, cure=APART_CURE)
        multiscale = read_multiscale(source) if volume.is_ngff else None
        _check_source(source, volume, multiscale)
        stack = LabelStack(volume, config)
        yield LinkPlanned(stack.axes, stack.shape, stack.axis, stack.n_slices)
        with locked(target):
            # another run may have made it while this one waited at its plan
            check_target(target, overwrite=config.overwrite, cure=EXISTS_CURE)
            linked = yield from link_stack(stack, config)
            dtype = "uint32" if linked.n_objects <= np.iinfo(np.uint32).max else "uint64"
            with set_aside(target):
                writer = _create(stack, multiscale, dtype, target, config)
                yield from write_linked(stack, writer, linked)
                writer.finish()
    if warning := linked.warning():
        yield Warned(warning)
    yield Finished(target, linked.n_objects, stack.n_slices, time.monotonic() - begun)


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


def _create(
    stack: LabelStack,
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
