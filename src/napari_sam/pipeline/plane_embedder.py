"""Embeddings of whole planes for the disk cache, with a look at what becomes of each."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Generator, Hashable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import (
    ConfigError,
    InputError,
    NapariSamError,
    NapariSamWarning,
    OutputError,
)
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model.sam import Sam
from napari_sam.pipeline.embedding_store import EmbeddingStore, EmbedProgress
from napari_sam.pipeline.plane_image import PlaneImage
from napari_sam.pipeline.prompt_decoding import Scene
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.frames import MAX_NATIVE_PIXELS, MAX_SHRINKAGE, Frame, fits_whole
from napari_sam.tiling import Contrast

__all__ = ["EmbeddedPlane", "PlaneEmbedder", "free_bytes"]


@dataclass(frozen=True)
class EmbeddedPlane:
    """A plane whose embedding is on disk.

    Attributes
    ----------
    origin : {"computed", "disk"}
        Whether it was computed now, or there already.
    n_bytes : int
        Its size before compression.
    """

    origin: Literal["computed", "disk"]
    n_bytes: int


class PlaneEmbedder:
    """Puts the embeddings of planes into the disk cache, under the names that prompts look for.

    Parameters
    ----------
    sam : Sam
        The model, in evaluation mode.
    n_planes : int
        How many planes of one size there will be: all of them have to fit.
    budget_bytes : int
        Size that the cache keeps to.
    directory : path-like, optional
        Folder of the cache; that of the widget by default.

    Raises
    ------
    ConfigError
        When the model has no digest, so that nothing would tell its embeddings apart.
    """

    def __init__(
        self,
        sam: Sam,
        n_planes: int,
        budget_bytes: int,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        if not sam.digest:
            raise ConfigError(
                "A model without a digest was given",
                rule="Embeddings on disk are told apart by the digest of their model's weights",
                cure="Load the model with `napari_sam.load_model`",
            )
        self._sam = sam
        self._cache = _WatchedCache(directory, budget_bytes, n_planes)
        self._store = _ThoroughStore(sam, self._cache, memory_bytes=0)

    @property
    def directory(self) -> Path:
        """Folder of the cache."""
        return self._cache.directory

    def check_size(self, shape_yx: tuple[int, int]) -> None:
        """Refuse planes that prompts do not see whole.

        Parameters
        ----------
        shape_yx : tuple of int
            Rows and columns.

        Raises
        ------
        InputError
        """
        spec = self._sam.input_spec
        if fits_whole(shape_yx, spec):
            return
        largest = (
            f"{MAX_NATIVE_PIXELS} pixels"
            if spec.native_resolution
            else f"{int(MAX_SHRINKAGE * spec.size)} pixels a side"
        )
        raise InputError(
            f"The planes have {shape_yx[0]} x {shape_yx[1]} pixels",
            rule=f"The model {self._sam.name} encodes planes of up to {largest} whole; of larger "
            "ones it encodes windows around the clicks, which nobody knows ahead",
            cure="Click without embedding first: a window takes a moment. Or save the part or the "
            "resolution that you work on as an image of its own",
        )

    def steps(
        self, image: PlaneImage, contrast: Contrast
    ) -> Generator[EmbedProgress, None, EmbeddedPlane]:
        """Make sure that the embedding of a plane is on disk.

        One that is there is read, so that a damaged one is found, and counts as used last. Closing
        the generator between two steps stops the work.

        Parameters
        ----------
        image : PlaneImage
        contrast : Contrast

        Yields
        ------
        EmbedProgress
            After each encoder window.

        Returns
        -------
        EmbeddedPlane

        Raises
        ------
        InputError
            When the image cannot be read.
        ConfigError
            When all planes together are larger than the cache.
        OutputError
            When the embedding cannot be stored, or all of them are larger than the disk.
        DeviceError
            When the device fails, or has too little memory.
        """
        scene, frame = Scene.of(image, contrast, self._sam), Frame.whole(image.levels_yx[0])
        origin: Literal["computed", "disk"] = "computed"
        try:
            key = scene.frame_key(frame)
            with closing(self._store.steps(key, lambda: scene.read(frame))) as steps:
                for progress in steps:
                    origin = "disk" if progress.origin == "disk" else "computed"
                    yield progress
        finally:
            self._store.flush()
            self._store.release()
        self._cache.check()
        return EmbeddedPlane(origin, self._cache.plane_bytes)


class _ThoroughStore(EmbeddingStore):
    """Stores also what is computed faster than it is loaded: another computer may be slower."""

    def _encode(
        self, key: Hashable, pixels: NDArray[np.uint8]
    ) -> Generator[EmbedProgress, None, tuple[ImageEmbedding, float]]:
        embedding, _ = yield from super()._encode(key, pixels)
        return embedding, math.inf


class _WatchedCache(EmbeddingCache):
    """A cache that stores a run's embeddings only when all of them fit, and remembers why not."""

    def __init__(
        self, directory: str | os.PathLike[str] | None, budget_bytes: int, n_planes: int
    ) -> None:
        super().__init__(directory, budget_bytes)
        self.plane_bytes = 0
        self._n_planes = n_planes
        self._problem: NapariSamError | None = None

    def get(self, key: str) -> dict[str, NDArray[np.float16]] | None:
        """Read an embedding, and note its size."""
        arrays = super().get(key)
        if arrays is not None:
            self._note(arrays)
        return arrays

    def put(
        self,
        key: str,
        arrays: Mapping[str, NDArray[np.float16]],
        attributes: Mapping[str, Any] | None = None,
    ) -> bool:
        """Store an embedding, unless the others would push it out again."""
        self._note(arrays)
        if self._problem is not None:
            return False
        with warnings.catch_warnings(record=True):  # becomes the error
            warnings.simplefilter("always", NapariSamWarning)
            is_stored = super().put(key, arrays, attributes)
        if not is_stored:
            self._problem = OutputError(
                f"An embedding cannot be stored in {str(self.directory)!r}",
                rule="The folder must be one that you may write to, with room for all embeddings",
                cure="Free some space there, or set NAPARI_SAM_HOME to another directory; what "
                "is stored is kept, and the same command goes on",
            )
        return is_stored

    def check(self) -> None:
        """Raise what was the matter."""
        if self._problem is not None:
            raise self._problem

    def _note(self, arrays: Mapping[str, NDArray[np.float16]]) -> None:
        is_first = self.plane_bytes == 0
        self.plane_bytes = sum(array.nbytes for array in arrays.values())
        if not is_first:
            return
        needed = self.plane_bytes * self._n_planes
        room = free_bytes(self.directory) + self.size_bytes()
        if needed > self.budget_bytes:
            self._problem = ConfigError(
                f"{self._n_planes} embeddings take up to {_gigabytes(needed)} GB, and the cache "
                f"keeps to {_gigabytes(self.budget_bytes)} GB",
                rule="All of them have to fit, or else the last would push out the first",
                cure=f"Let the cache be larger, with `--cache-size {math.ceil(needed / 1e9)}`, or "
                "take fewer planes, with `--slices`",
            )
        elif needed > room:
            self._problem = OutputError(
                f"{self._n_planes} embeddings take up to {_gigabytes(needed)} GB, and the disk of "
                f"{str(self.directory)!r} has room for {_gigabytes(room)} GB",
                rule="All of them have to fit",
                cure="Free some space there, set NAPARI_SAM_HOME to a directory on another disk, "
                "or take fewer planes, with `--slices`",
            )


def free_bytes(directory: Path) -> int:
    """Return the free space of the disk that a folder lies on, or will lie on.

    Parameters
    ----------
    directory : Path

    Returns
    -------
    int
    """
    there = next(folder for folder in (directory, *directory.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3g}"
