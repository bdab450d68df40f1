"""Segment everything on the plane in view, step by step in a worker."""

from __future__ import annotations

import math
from collections.abc import Generator, Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam._napari.layers import ChannelChoice, LayerPlane
from napari_sam._napari.loaded_models import load_shared_model
from napari_sam._napari.model_view import ContrastChoice, contrast_steps, model_view
from napari_sam.core.object_scale import AUTO, NATIVE, scale_for
from napari_sam.core.steps import retold
from napari_sam.pipeline.options import AutomaticOptions

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.core.plane import Plane
    from napari_sam.model import Sam
    from napari_sam.pipeline.everything import PlaneBasins, PlaneCandidates
    from napari_sam.pipeline.interactive import InteractivePredictor
    from napari_sam.predict import ImageEmbedding
    from napari_sam.tiling import Contrast

__all__ = [
    "FLOOR",
    "PlaneFound",
    "PlaneRequest",
    "RunProgress",
    "diameter_steps",
    "learn_steps",
    "plane_steps",
]

FLOOR = 0.3
"""Masks of lower scores are not collected unless a threshold is lower still."""


MAX_MAGNIFIED_PIXELS = 2**24
"""Planes are magnified to at most so many pixels; their embedding, which nobody keeps, takes 1 GB.
Those that are to be magnified further are segmented in tiles, or left as they are where that was
only estimated."""


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come.

    Attributes
    ----------
    text : str
        A few words for the user.
    done, total : int
        Steps; a total of 0 means that their number is not known.
    """

    text: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, eq=False)
class PlaneRequest:
    """What is to be segmented, as it was when the user asked.

    Attributes
    ----------
    layer : napari.layers.Image
        The image.
    plane : Plane
        The plane of it that is in view.
    pixels : LayerPlane
        Its pixels.
    volume_key : hashable
        Equal as long as the image and its channels keep their data.
    channels : ChannelChoice
        What the model sees of it.
    contrast : ContrastChoice
        How intensities become what the model sees.
    model, device : str
        As `load_shared_model` takes them.
    options : AutomaticOptions
        How to look for objects.
    known_contrast : Contrast or None
        The contrast, where it was measured before.
    predictors : tuple of InteractivePredictor
        Those that may have the plane's embedding already.
    """

    layer: Image
    plane: Plane
    pixels: LayerPlane
    volume_key: Hashable
    channels: ChannelChoice
    contrast: ContrastChoice
    model: str
    device: str
    options: AutomaticOptions
    known_contrast: Contrast | None = None
    predictors: tuple[InteractivePredictor, ...] = ()

    @property
    def scale(self) -> float:
        """Pixels of the model's input along a pixel of the image; 1 until the diameter is known."""
        return scale_for(self.options.diameter)

    @property
    def contrast_key(self) -> Hashable:
        """Equal for requests of the same contrast."""
        return self.volume_key, self.channels, self.contrast, self.model


@dataclass(frozen=True, eq=False)
class PlaneFound:
    """What was found.

    Attributes
    ----------
    candidates : PlaneCandidates, PlaneBasins or None
        None for a plane that is too large to be encoded whole: it is segmented in tiles.
    contrast : Contrast
        The contrast of the volume.
    predictor : InteractivePredictor
        With the model and the embedding.
    scale : float
        Pixels of the model's input along a pixel of the plane.
    estimated_diameter : float or None
        Of the objects, in pixels, where it was estimated.
    """

    candidates: PlaneCandidates | PlaneBasins | None
    contrast: Contrast
    predictor: InteractivePredictor
    scale: float = 1.0
    estimated_diameter: float | None = None


def loading_text(model: str) -> str:
    """Say that a model is being loaded.

    Parameters
    ----------
    model : str
        A name in the registry, or the path of a file.

    Returns
    -------
    str
    """
    return f"Loading the model {Path(model).name} …"


def learn_steps(model: str, device: str) -> Generator[RunProgress, None, Sam]:
    """Load a model, to know what it can do.

    Parameters
    ----------
    model, device : str
        As `load_shared_model` takes them.

    Yields
    ------
    RunProgress

    Returns
    -------
    Sam

    Raises
    ------
    NapariSamError
        When it cannot be loaded.
    """
    yield RunProgress(loading_text(model))
    return load_shared_model(model, device)


def plane_steps(request: PlaneRequest) -> Generator[RunProgress, None, PlaneFound]:
    """Load the model, encode the plane, and find the masks of all objects on it.

    Parameters
    ----------
    request : PlaneRequest

    Yields
    ------
    RunProgress

    Returns
    -------
    PlaneFound

    Raises
    ------
    NapariSamError
        When the model cannot be loaded or run, or the image cannot be used.
    """
    yield RunProgress(loading_text(request.model))
    sam = load_shared_model(request.model, request.device)
    predictor = _predictor_of(sam, request.predictors)
    contrast = yield from _contrast_of(request, sam)
    if not _is_held(request, sam):
        return PlaneFound(None, contrast, predictor)
    settled, diameter = yield from _settle_diameter(request, predictor, contrast)
    candidates = yield from _candidate_steps(settled, predictor, contrast)
    return PlaneFound(candidates, contrast, predictor, settled.scale, diameter)


def diameter_steps(
    request: PlaneRequest,
) -> Generator[RunProgress, None, tuple[float | None, Contrast]]:
    """Load the model, and estimate the diameter of the objects in the middle of the plane.

    Parameters
    ----------
    request : PlaneRequest

    Yields
    ------
    RunProgress

    Returns
    -------
    diameter : float or None
        In pixels; None where fewer than three objects are seen.
    contrast : Contrast
        Of the volume.

    Raises
    ------
    NapariSamError
        When the model cannot be loaded or run, or the image cannot be used.
    """
    yield RunProgress(loading_text(request.model))
    sam = load_shared_model(request.model, request.device)
    contrast = yield from _contrast_of(request, sam)
    diameter = yield from _estimate_steps(request, sam, contrast)
    return diameter, contrast


def _settle_diameter(
    request: PlaneRequest, predictor: InteractivePredictor, contrast: Contrast
) -> Generator[RunProgress, None, tuple[PlaneRequest, float | None]]:
    """Return the request with a diameter that is known, and the diameter if it was estimated."""
    from napari_sam.predict.object_diameter import SAMPLE_SIDE, choose_diameter

    chosen, estimated = choose_diameter(predictor.sam, request.options.diameter), None
    if chosen == AUTO:
        embedding = None
        if max(request.pixels.levels_yx[0]) <= SAMPLE_SIDE:
            embedding = yield from _embedding_steps(request, predictor, contrast)
        estimated = yield from _estimate_steps(request, predictor.sam, contrast, embedding)
        chosen = NATIVE if estimated is None else estimated
    settled = replace(request, options=replace(request.options, diameter=chosen))
    if estimated is not None and not _is_held(settled, predictor.sam):
        settled = replace(request, options=replace(request.options, diameter=NATIVE))
    return settled, estimated


def _estimate_steps(
    request: PlaneRequest, sam: Sam, contrast: Contrast, embedding: ImageEmbedding | None = None
) -> Generator[RunProgress, None, float | None]:
    """Estimate the diameter of objects in the middle of the plane, whose embedding may be known."""
    from napari_sam.pipeline.object_size import middle_window
    from napari_sam.predict import object_diameter

    window = middle_window(request.pixels.levels_yx[0])
    pixels = model_view(request.pixels, contrast, window)
    text = RunProgress("Estimating the diameter of objects …")
    yield text
    steps = object_diameter.diameter_steps(sam, [pixels], embedding)
    diameter: float | None = yield from retold(steps, lambda _: text)
    return diameter


def _embedding_steps(
    request: PlaneRequest, predictor: InteractivePredictor, contrast: Contrast
) -> Generator[RunProgress, None, ImageEmbedding]:
    """Encode the plane at its own scale, as clicks see it."""
    encoding = predictor.embedding(request.pixels, contrast)
    embedding: ImageEmbedding = yield from retold(
        encoding, lambda step: RunProgress("Preparing the image …", step.done, step.total)
    )
    return embedding


def _is_held(request: PlaneRequest, sam: Sam) -> bool:
    """Tell whether memory holds the embedding of the whole plane at the scale of the request."""
    from napari_sam.predict.frames import fits_whole

    rows, cols = request.pixels.levels_yx[0]
    is_held = rows * cols * request.scale**2 <= MAX_MAGNIFIED_PIXELS
    shrunk = min(request.scale, 1.0)
    return is_held and fits_whole(
        (math.ceil(rows * shrunk), math.ceil(cols * shrunk)), sam.input_spec
    )


def _contrast_of(request: PlaneRequest, sam: Sam) -> Generator[RunProgress, None, Contrast]:
    """Measure the contrast of the volume, unless it is known."""
    contrast = request.known_contrast
    if contrast is None:
        measuring = contrast_steps(
            request.layer,
            request.channels,
            request.contrast,
            keeps_8bit=sam.input_spec.contrast == "as_is",
        )
        text = RunProgress("Measuring the contrast …")
        contrast = yield from retold(measuring, lambda _: text)
    return contrast


def _candidate_steps(
    request: PlaneRequest, predictor: InteractivePredictor, contrast: Contrast
) -> Generator[RunProgress, None, PlaneCandidates | PlaneBasins]:
    from napari_sam.pipeline.everything import segment_plane

    sam, options = predictor.sam, request.options
    image: ImageEmbedding | Any
    crops_alone = options.crop_n_layers and not sam.input_spec.native_resolution
    if crops_alone or request.scale != 1:  # what is cached has the image's own scale
        image = model_view(request.pixels, contrast)
    else:
        image = yield from _embedding_steps(request, predictor, contrast)
    finding = segment_plane(image, sam, options, floor_iou=FLOOR, floor_stability=FLOOR)
    things = "seeds" if options.mode == "watershed" else "masks"
    candidates: PlaneCandidates | PlaneBasins = yield from retold(
        finding,
        lambda step: RunProgress(
            f"Looking for objects: {step.n_masks} {things} …", step.done, step.total
        ),
    )
    return candidates


def _predictor_of(sam: Sam, known: tuple[InteractivePredictor, ...]) -> InteractivePredictor:
    """Share a predictor of this model, for the embeddings that it has in memory."""
    for predictor in known:
        if predictor.sam is sam:
            return predictor
    from napari_sam.io.embedding_budget import stored_budget
    from napari_sam.io.embedding_cache import EmbeddingCache
    from napari_sam.pipeline.interactive import InteractivePredictor

    return InteractivePredictor(sam, EmbeddingCache(budget_bytes=stored_budget()))
