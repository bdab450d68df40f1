"""Prompts on a plane of any size to candidate masks: embeddings, views and decodes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import torch

from napari_sam.core.errors import InputError
from napari_sam.core.prompts import PromptSet
from napari_sam.core.steps import result_of
from napari_sam.io.embedding_cache import EmbeddingCache
from napari_sam.model.devices import translate_torch_errors
from napari_sam.model.sam import Sam
from napari_sam.pipeline.candidates import ObjectCandidates, Preference
from napari_sam.pipeline.embedding_store import EmbeddingStore, EmbedProgress
from napari_sam.pipeline.plane_image import PlaneImage
from napari_sam.pipeline.prompt_decoding import PromptDecoder, Scene
from napari_sam.pipeline.prompt_steps import check_inside
from napari_sam.predict.decoding import prepare_decoding
from napari_sam.predict.embedding import ImageEmbedding
from napari_sam.predict.frames import Frame, fits_whole
from napari_sam.tiling.normalize import Contrast

__all__ = ["EmbedProgress", "InteractivePredictor"]


class InteractivePredictor:
    """Predict the masks of prompts on planes of images, quickly and again and again.

    A plane that is small enough is encoded whole; on a larger one, a window around the prompts.
    Where the prompts or the mask leave a window, a coarser one shows more, so that an object may
    have any size and clicks any distance.

    Masks depend on the ordered prompts alone, not on what was asked before: embeddings are rounded
    to half precision before they are used, and each click builds on the mask of the clicks before
    it. All of it is remembered within bounds, so that one more click costs one decode.

    Several threads may share one predictor.

    Parameters
    ----------
    sam : Sam
        The model, in evaluation mode, as ``load_model`` returns it.
    cache : EmbeddingCache or None
        Where embeddings are kept on disk.
    memory_bytes : int
        Size that the embeddings in memory keep to; the two newest stay in any case.
    """

    def __init__(
        self, sam: Sam, cache: EmbeddingCache | None = None, memory_bytes: int = 2**27
    ) -> None:
        self.sam = sam
        self._store = EmbeddingStore(sam, cache, memory_bytes)
        self._decoder = PromptDecoder(sam, self._store)

    def prepare(
        self, image: PlaneImage, contrast: Contrast, *, with_decoder: bool = False
    ) -> Generator[EmbedProgress, None, None]:
        """Encode a plane, so that prompts on it are answered at once.

        Of a plane that is too large to be encoded whole nothing is encoded here, and nothing is
        yielded. Closing the generator between two steps stops the work.

        Parameters
        ----------
        image : PlaneImage
            The plane.
        contrast : Contrast
            From intensities to 8 bit.
        with_decoder : bool
            Prepare the mask decoder too, for an image that will be clicked on next.

        Yields
        ------
        EmbedProgress
            After each encoder window.

        Raises
        ------
        InputError
            When the image cannot be shown to the model.
        DeviceError
            When the device fails, or has too little memory.
        """
        if fits_whole(image.levels_yx[0], self.sam.input_spec):
            embedding = yield from self._steps(image, contrast)
            if with_decoder:
                prepare_decoding(self.sam, embedding)

    def is_ready(self, image: PlaneImage, contrast: Contrast) -> bool:
        """Tell whether :meth:`prepare` has nothing left to do.

        Parameters
        ----------
        image : PlaneImage
        contrast : Contrast

        Returns
        -------
        bool
        """
        if not fits_whole(image.levels_yx[0], self.sam.input_spec):
            return True
        frame = Frame.whole(image.levels_yx[0])
        return self._store.is_ready(Scene.of(image, contrast, self.sam).frame_key(frame))

    def embedding(
        self, image: PlaneImage, contrast: Contrast
    ) -> Generator[EmbedProgress, None, ImageEmbedding]:
        """Return the embedding of a whole plane, for segmenting everything on it.

        Parameters and other errors as in :meth:`prepare`.

        Yields
        ------
        EmbedProgress

        Returns
        -------
        ImageEmbedding
            In single precision, with the values that clicks are decoded from.

        Raises
        ------
        InputError
            When the plane is too large to be encoded whole.
        """
        rows, cols = image.levels_yx[0]
        if not fits_whole((rows, cols), self.sam.input_spec):
            raise InputError(
                f"The embedding of a plane of {rows} x {cols} pixels was asked for",
                rule="Planes of this size are encoded in windows",
                cure="Segment it as a volume, tile by tile",
            )
        half = yield from self._steps(image, contrast)
        with translate_torch_errors():
            return replace(
                half,
                features=half.features.to(torch.float32),
                skips=tuple(skip.to(torch.float32) for skip in half.skips),
            )

    def predict(
        self,
        image: PlaneImage,
        contrast: Contrast,
        objects: Sequence[PromptSet],
        preference: Preference = "best",
    ) -> tuple[ObjectCandidates, ...]:
        """Predict the masks of objects.

        Parameters
        ----------
        image : PlaneImage
            The plane.
        contrast : Contrast
            From intensities to 8 bit.
        objects : sequence of PromptSet
            The prompts of each object, in pixels of the plane.
        preference : {"best", "whole", "part", "sub-part"}
            Which mask of an ambiguous first point the later points go on from, where the prompts
            name none.

        Returns
        -------
        tuple of ObjectCandidates
            One for each object.

        Raises
        ------
        InputError
            When prompts lie outside of the plane, or there are none, or when the image cannot be
            shown to the model.
        DeviceError
            When the device fails, or has too little memory.
        """
        return result_of(self.predict_steps(image, contrast, objects, preference))

    def predict_steps(
        self,
        image: PlaneImage,
        contrast: Contrast,
        objects: Sequence[PromptSet],
        preference: Preference = "best",
    ) -> Generator[int, None, tuple[ObjectCandidates, ...]]:
        """Predict as :meth:`predict` does, giving control back after each object.

        Yields
        ------
        int
            Objects that are done.

        Returns
        -------
        tuple of ObjectCandidates
        """
        scene = Scene.of(image, contrast, self.sam)
        for prompts in objects:
            check_inside(prompts, scene.views.shape_yx)
        found: list[ObjectCandidates] = []
        for prompts in objects:
            found.append(self._decoder.predict(scene, prompts, preference))
            yield len(found)
        return tuple(found)

    def flush(self) -> None:
        """Wait until all embeddings are on disk."""
        self._store.flush()

    def release(self) -> None:
        """Forget embeddings and masks in memory; what is on disk stays."""
        self._store.release()
        self._decoder.clear()

    def _steps(
        self, image: PlaneImage, contrast: Contrast
    ) -> Generator[EmbedProgress, None, ImageEmbedding]:
        """Embed a whole plane."""
        scene, frame = Scene.of(image, contrast, self.sam), Frame.whole(image.levels_yx[0])
        return self._store.steps(scene.frame_key(frame), lambda: scene.read(frame))
