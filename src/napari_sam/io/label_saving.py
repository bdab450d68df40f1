"""Save a label image as OME-Zarr, block by block, beside its image or inside it."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import OutputError
from napari_sam.io.label_image import Block, LabelImage
from napari_sam.io.label_layout import NgffVersion
from napari_sam.io.label_store import LabelStore
from napari_sam.io.label_writer import LabelWriter
from napari_sam.io.ome_zarr import read_multiscale
from napari_sam.io.output_files import check_target, output_errors, remove_store, set_aside

__all__ = ["SaveProgress", "save_labels"]

BLOCK_PIXELS = 2**22
"""Pixels that are in memory at one time."""
N_VERIFIED = 16
"""Blocks that are read back."""
EXISTS_CURE = "Choose another name, or allow that the old labels are replaced"


@dataclass(frozen=True)
class SaveProgress:
    """How far saving has come.

    Parameters
    ----------
    stage : str
        ``"checking"`` ids of 64 bits, ``"writing"``, or ``"verifying"`` what was written.
    done, total : int
        Blocks of this stage.
    """

    stage: Literal["checking", "writing", "verifying"]
    done: int
    total: int


@dataclass(frozen=True)
class _Written:
    """A block that was written, and what it held."""

    level: int
    block: Block
    checksum: int


def save_labels(
    target: str | Path,
    labels: LabelImage,
    *,
    name: str | None = None,
    ngff_version: NgffVersion = "0.5",
    source_image: str | None = None,
    overwrite: bool = False,
) -> Generator[SaveProgress, None, Path]:
    """Save labels as an OME-Zarr image-label.

    A generator: work is done while it is iterated. The store stands beside `target` under a hidden
    name, marked unfinished, until everything was written and a sample of it was read back; then it
    takes its place in one step. When the generator is closed or fails, nothing is left, and what
    stood at `target` is still there.

    Ids are stored as 32-bit unsigned integers, so that there is room for new objects and other
    programs can read them; as 64 bits where one is larger.

    Parameters
    ----------
    target : str or Path
        Directory to write.
    labels : LabelImage
    name : str, optional
        Name in the metadata; by default that of the directory.
    ngff_version : str
        ``"0.5"`` or ``"0.4"``.
    source_image : str, optional
        Path of the OME-Zarr image that the labels belong to, relative to `target`.
    overwrite : bool
        Whether a store at `target` may be replaced.

    Yields
    ------
    SaveProgress

    Returns
    -------
    Path
        `target`.

    Raises
    ------
    InputError
        When there are negative ids.
    OutputError
        When something is there already, the store cannot be written, or is not read back right.
    """
    target = Path(target)
    check_target(target, overwrite=overwrite, cure=EXISTS_CURE)
    dtype = yield from _find_dtype(labels)
    partial = target.with_name(f".{target.name}.partial")
    remove_store(partial)  # left by a run that was killed
    name = name or target.name.split(".")[0] or "labels"
    try:
        layout = labels.layout(ngff_version, dtype)
        LabelWriter.create(partial, layout, source_image=source_image, name=name)
        written = yield from _write(labels, partial)
        yield from _verify(target, partial, written)
        if labels.properties:
            LabelStore.open(partial).write_properties(labels.properties)
        LabelWriter.reopen(partial).finish()
        with set_aside(target), output_errors(target):
            partial.rename(target)
    finally:
        remove_store(partial)
    return target


def _find_dtype(labels: LabelImage) -> Generator[SaveProgress, None, str]:
    if np.dtype(labels.data.dtype).itemsize < 8:
        return "uint32"
    blocks = list(_blocks(labels.shape, (512, 512), labels.chunks))
    largest = 0
    for done, block in enumerate(blocks):
        yield SaveProgress("checking", done, len(blocks))
        largest = max(largest, int(labels.read(block).max()))
    return "uint32" if largest <= np.iinfo(np.uint32).max else "uint64"


def _write(labels: LabelImage, path: Path) -> Generator[SaveProgress, None, list[_Written]]:
    """Fill one level after the other; return a sample of what was written where."""
    levels = read_multiscale(path, "r+").levels
    chunks = [labels.chunks, *((1,) * len(labels.shape) for _ in levels[1:])]
    plan = [
        (level, block)
        for level, array in enumerate(levels)
        for block in _blocks(array.shape, array.chunks[-2:], chunks[level])
    ]
    sampled = set(np.linspace(0, len(plan) - 1, N_VERIFIED).astype(int).tolist())
    written = []
    for done, (level, block) in enumerate(plan):
        yield SaveProgress("writing", done, len(plan))
        with output_errors(path):
            if level == 0:
                values = labels.read(block)
            else:  # every second row and column, so that pixel 0 of all levels is the same
                finer = tuple(slice(2 * span.start, 2 * span.stop, 2) for span in block[-2:])
                values = np.asarray(levels[level - 1][block[:-2] + finer])
            values = values.astype(levels[level].dtype)
            levels[level][block] = values
        if done in sampled:
            written.append(_Written(level, block, _checksum(values)))
    yield SaveProgress("writing", len(plan), len(plan))
    return written


def _verify(
    target: Path, path: Path, written: Sequence[_Written]
) -> Generator[SaveProgress, None, None]:
    levels = read_multiscale(path).levels
    for done, sample in enumerate(written):
        yield SaveProgress("verifying", done, len(written))
        if _checksum(np.asarray(levels[sample.level][sample.block])) != sample.checksum:
            raise OutputError(
                f"The labels for {target} were not read back as they were written",
                rule="A sample of what was saved is read back before it is trusted",
                cure="Check the disk or the network folder, and save elsewhere",
            )
    yield SaveProgress("verifying", len(written), len(written))


def _checksum(values: NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).tobytes())


def _blocks(
    shape: Sequence[int], chunk_yx: Sequence[int], source_chunks: Sequence[int]
) -> Iterator[Block]:
    """Cut an array into blocks of whole chunks that fit into memory, row of chunks by row.

    A block is as thick as the chunks that it is read from, so that none is read for each slice.
    """
    lengths = [1] * (len(shape) - 2)
    lengths += [min(length, n) for length, n in zip(chunk_yx, shape[-2:], strict=True)]
    for axis in reversed(range(len(shape) - 2)):
        room = max(BLOCK_PIXELS // int(np.prod(lengths)), 1)
        lengths[axis] = min(source_chunks[axis], shape[axis], room)
    lengths[-1] *= max(BLOCK_PIXELS // int(np.prod(lengths)), 1)
    spans = [
        [slice(start, min(start + length, n)) for start in range(0, n, length)]
        for length, n in zip(lengths, shape, strict=True)
    ]
    yield from product(*spans)
