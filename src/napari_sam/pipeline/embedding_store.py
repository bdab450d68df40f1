"""Image embeddings at hand: in memory, on disk, or computed once for all who ask."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.steps import result_of
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.execution import execution_for
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam
from napari_sam.predict.embedding import ImageEmbedding, encode_steps
from napari_sam.predict.transforms import ImageTransform

__all__ = ["EmbedProgress", "EmbeddingStore", "embedding_key"]

_FORMAT_VERSION = 1
"""Part of the key: another way to compute or store an embedding needs another number."""

_KEPT = 2
"""Embeddings that stay in any case: of the plane in view, and of the one prepared ahead."""

_LOAD_BYTES_PER_S = 3e8
"""How fast a disk cache gives embeddings back, at least."""


@dataclass(frozen=True)
class EmbedProgress:
    """How far an embedding is.

    Attributes
    ----------
    done, total : int
        Encoder windows; the embedding is there when the two are equal.
    origin : {"memory", "disk", "computed"}
        Where it comes from.
    """

    done: int
    total: int
    origin: Literal["memory", "disk", "computed"]


def embedding_key(sam: Sam, pixels: NDArray[np.uint8]) -> str:
    """Hash all that an embedding depends on.

    Parameters
    ----------
    sam : Sam
        The model; its digest and input specification count.
    pixels : ndarray of uint8, shape (H, W, 3)
        What the model sees, so that image and contrast count.

    Returns
    -------
    str
        Hexadecimal.
    """
    described = repr((_FORMAT_VERSION, sam.digest, sam.input_spec, pixels.shape))
    hasher = hashlib.sha256(described.encode())
    hasher.update(np.ascontiguousarray(pixels).data)
    return hasher.hexdigest()


class EmbeddingStore:
    """Embeddings of one model, in half precision, the least recently used of which are forgotten.

    Features are rounded before their first use, so that an embedding that comes back from disk
    gives the same masks, bit by bit. Whatever takes longer to compute than to load goes to the
    disk cache, in the background. Several threads may ask for the same embedding: it is computed
    once, and each of them takes its turn at the encoder's windows.

    Parameters
    ----------
    sam : Sam
        The model. One without a digest has nothing to tell its files apart and stores none.
    cache : EmbeddingCache or None
        The disk cache.
    memory_bytes : int
        Size that the embeddings in memory keep to; the two newest stay in any case.
    """

    def __init__(self, sam: Sam, cache: EmbeddingCache | None, memory_bytes: int) -> None:
        self._sam = sam
        self._cache = cache if sam.digest else None
        self._memory_bytes = memory_bytes
        # reentrant: a generator that is thrown away may end while this thread holds it
        self._lock = threading.RLock()
        self._embeddings: OrderedDict[Hashable, ImageEmbedding] = OrderedDict()
        self._jobs: dict[Hashable, _Job] = {}
        self._writers: set[threading.Thread] = set()

    def is_ready(self, key: Hashable) -> bool:
        """Tell whether an embedding is in memory."""
        with self._lock:
            return key in self._embeddings

    def get(self, key: Hashable, read: Callable[[], NDArray[np.uint8]]) -> ImageEmbedding:
        """Return an embedding; parameters and errors as in :meth:`steps`."""
        return result_of(self.steps(key, read))

    def steps(
        self, key: Hashable, read: Callable[[], NDArray[np.uint8]]
    ) -> Generator[EmbedProgress, None, ImageEmbedding]:
        """Return an embedding, giving control back after each encoder window.

        Closing the generator stops the work, unless somebody else waits for it too.

        Parameters
        ----------
        key : hashable
            Tells what is encoded; the name in memory.
        read : callable
            Reads the pixels, uint8 (H, W, 3), when they are needed.

        Yields
        ------
        EmbedProgress

        Returns
        -------
        ImageEmbedding
            With features in half precision.

        Raises
        ------
        DeviceError
            When the device fails, or has too little memory.
        """
        known = self._recall(key)
        if known is not None:
            yield EmbedProgress(1, 1, "memory")
            return known
        job = self._join(key, read)
        try:
            while (progress := job.advance()) is not None:
                yield progress
        finally:
            self._leave(key, job)
        return job.result()

    def flush(self) -> None:
        """Wait until all that is computed is on disk."""
        for writer in list(self._writers):
            writer.join()

    def release(self) -> None:
        """Forget the embeddings in memory."""
        with self._lock:
            self._embeddings.clear()

    def _recall(self, key: Hashable) -> ImageEmbedding | None:
        with self._lock:
            if key not in self._embeddings:
                return None
            self._embeddings.move_to_end(key)
            return self._embeddings[key]

    def _remember(self, key: Hashable, embedding: ImageEmbedding) -> None:
        with self._lock:
            self._embeddings[key] = embedding
            self._embeddings.move_to_end(key)
            total = sum(_bytes_of(kept) for kept in self._embeddings.values())
            while total > self._memory_bytes and len(self._embeddings) > _KEPT:
                _, dropped = self._embeddings.popitem(last=False)
                total -= _bytes_of(dropped)

    def _join(self, key: Hashable, read: Callable[[], NDArray[np.uint8]]) -> _Job:
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = _Job(self._compute(key, read))
            job.users += 1
            return job

    def _leave(self, key: Hashable, job: _Job) -> None:
        with self._lock:
            job.users -= 1
            if job.users == 0 and self._jobs.get(key) is job:
                del self._jobs[key]

    def _compute(
        self, key: Hashable, read: Callable[[], NDArray[np.uint8]]
    ) -> Generator[EmbedProgress, None, ImageEmbedding]:
        known = self._recall(key)  # finished by another thread between look and join
        if known is not None:
            yield EmbedProgress(1, 1, "memory")
            return known
        pixels = read()
        disk_key = embedding_key(self._sam, pixels) if self._cache else ""
        embedding = self._load(disk_key, pixels.shape[:2])
        if embedding is not None:
            self._remember(key, embedding)
            yield EmbedProgress(1, 1, "disk")
            return embedding
        embedding, seconds = yield from self._encode(key, pixels)
        if seconds > _bytes_of(embedding) / _LOAD_BYTES_PER_S:
            self._write_in_background(disk_key, embedding)
        return embedding

    def _encode(
        self, key: Hashable, pixels: NDArray[np.uint8]
    ) -> Generator[EmbedProgress, None, tuple[ImageEmbedding, float]]:
        size_yx = (pixels.shape[0], pixels.shape[1])
        transform = ImageTransform.for_image(size_yx, self._sam.input_spec)
        steps = encode_steps(self._sam, transform.image_to_input(pixels), transform, torch.float16)
        seconds, total = 0.0, 1
        while True:
            started = time.perf_counter()
            try:
                done, total = next(steps)
            except StopIteration as finished:
                features: ImageFeatures = finished.value
                break
            seconds += time.perf_counter() - started
            if done < total:
                yield EmbedProgress(done, total, "computed")
        embedding = self._embedding(features, size_yx, transform)
        self._remember(key, embedding)
        yield EmbedProgress(total, total, "computed")  # who sees this finds it in memory
        return embedding, seconds

    def _embedding(
        self, features: ImageFeatures, size_yx: tuple[int, int], transform: ImageTransform
    ) -> ImageEmbedding:
        return ImageEmbedding(
            features.embedding, features.skips, size_yx, transform, self._sam.digest
        )

    def _load(self, disk_key: str, shape: tuple[int, ...]) -> ImageEmbedding | None:
        arrays = self._cache.get(disk_key) if self._cache else None
        if arrays is None:
            return None
        names = ["features", *sorted(name for name in arrays if name.startswith("skip"))]
        with translate_torch_errors():
            features, *skips = [self._on_device(arrays[name]) for name in names]
        size_yx = (shape[0], shape[1])
        transform = ImageTransform.for_image(size_yx, self._sam.input_spec)
        return self._embedding(ImageFeatures(features, tuple(skips)), size_yx, transform)

    def _on_device(self, level: NDArray[np.float16]) -> Tensor:
        """Bring a map (C, h, w) from disk to the device, (1, C, h, w)."""
        device = self._sam.device
        level_on_device = torch.from_numpy(level)[None].to(device)
        return level_on_device.contiguous(memory_format=execution_for(device).map_format)

    def _write_in_background(self, disk_key: str, embedding: ImageEmbedding) -> None:
        """Store an embedding while the first clicks are answered.

        The thread ends with its work; the interpreter waits for it, so that no file is half done.
        """
        cache = self._cache
        if cache is None:
            return

        def write() -> None:
            try:
                levels = [embedding.features, *embedding.skips]
                names = ["features", *(f"skip{i}" for i in range(len(embedding.skips)))]
                # put in order by torch, which lets other threads work meanwhile; numpy would not
                arrays = [level[0].contiguous().cpu().numpy() for level in levels]
                attributes = {
                    "content": "napari_sam image embedding",
                    "version": _FORMAT_VERSION,
                    "model": self._sam.name,
                    "model_digest": self._sam.digest,
                    "image_size_yx": list(embedding.original_size_yx),
                }
                cache.put(disk_key, dict(zip(names, arrays, strict=True)), attributes)
            finally:
                self._writers.discard(writer)

        writer = threading.Thread(target=write, name="napari_sam embedding cache")
        self._writers.add(writer)
        writer.start()


class _Job:
    """An embedding that is being computed, by whichever thread has its turn."""

    def __init__(self, steps: Generator[EmbedProgress, None, ImageEmbedding]) -> None:
        self.users = 0
        self._steps = steps
        self._turn = threading.Lock()
        self._result: ImageEmbedding | None = None
        self._error: Exception | None = None

    def advance(self) -> EmbedProgress | None:
        """Do the next step; None when all is done. An error is raised in all threads."""
        with self._turn:
            if self._error is not None:
                raise self._error
            if self._result is not None:
                return None
            try:
                return next(self._steps)
            except StopIteration as finished:
                self._result = finished.value
                return None
            except Exception as error:
                self._error = error
                raise

    def result(self) -> ImageEmbedding:
        """Return the embedding, once :meth:`advance` has returned None."""
        assert self._result is not None
        return self._result


def _bytes_of(embedding: ImageEmbedding) -> int:
    levels = (embedding.features, *embedding.skips)
    return sum(level.numel() * level.element_size() for level in levels)
