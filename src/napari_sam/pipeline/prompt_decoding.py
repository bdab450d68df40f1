"""The prompts of one object to its masks: step by step, in views that show all of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.prompts import PromptSet
from napari_sam.model.sam import Sam
from napari_sam.pipeline.candidates import ObjectCandidates, Preference
from napari_sam.pipeline.decode_memo import DecodedView, DecodeMemo
from napari_sam.pipeline.embedding_store import EmbeddingStore
from napari_sam.pipeline.plane_image import PlaneImage
from napari_sam.pipeline.plane_reading import pixels_to_read, read_frame
from napari_sam.pipeline.prompt_steps import prompt_steps
from napari_sam.pipeline.view_choice import PlaneViews, mask_extent, object_extent, union
from napari_sam.predict.decoding import ViewPrompts, decode_all_masks
from napari_sam.predict.frames import Extent, Frame, View, closer_view
from napari_sam.predict.mask_prompts import low_res_of_mask, low_res_of_other_view
from napari_sam.tiling.normalize import Contrast

__all__ = ["PromptDecoder", "Scene"]

_STEP_BYTES, _VIEW_BYTES = 2**28, 2**26
"""Size of the logits that are remembered: those of some 250 steps of the compact model, and of 64
first steps for when another mask of theirs is chosen."""

_LOST_BELOW = 0.15
"""Predicted IoU of the best mask below which the model has not found an object at all.

On 15 training images, at their own resolution, none of 45 clicks into objects was below 0.1; a
click into one that is three to ten times larger than the compact model knows is at 0.05.
"""

_SURER_BY = 0.1
"""How much higher the predicted IoU at another scale has to be."""

_MAX_PIXELS_PER_VIEW = 2**26
"""A view that takes more pixels to read is only looked at when prompts ask for it, not masks."""

_SINGLE = 0
"""Of all masks, the one for prompts that leave no doubt; the three others follow."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What prompts stand on.

    Parameters
    ----------
    image : PlaneImage
        The plane.
    contrast : Contrast
        From intensities to 8 bit.
    views : PlaneViews
        How the model can look at it.
    """

    image: PlaneImage
    contrast: Contrast
    views: PlaneViews

    @classmethod
    def of(cls, image: PlaneImage, contrast: Contrast, sam: Sam) -> Scene:
        """Put together what the model `sam` needs."""
        return cls(image, contrast, PlaneViews(image.levels_yx[0], sam.input_spec))

    @property
    def key(self) -> Hashable:
        """Tells what is seen apart."""
        return self.image.key, self.contrast, self.views.shape_yx

    def frame_key(self, frame: Frame) -> Hashable:
        """Name of the embedding of a frame."""
        return self.key, frame

    def read(self, frame: Frame) -> NDArray[np.uint8]:
        """Read a frame as the model sees it."""
        return read_frame(self.image, frame, self.contrast)


class _Step(NamedTuple):
    """A step that is decoded, and the index of the mask that is meant among all masks.

    What was looked at is the view, and what was decoded the same or a part of it.
    """

    view: View
    decoded: DecodedView
    chosen: int

    @property
    def score(self) -> float:
        """How sure the model is of its best mask, whichever is meant."""
        return float(self.decoded.masks.predicted_iou.max())

    @property
    def inside(self) -> NDArray[np.bool_]:
        return self.decoded.inside(self.chosen)


class PromptDecoder:
    """Decodes the prompts of objects, and remembers what they gave.

    Parameters
    ----------
    sam : Sam
        The model.
    store : EmbeddingStore
        Its embeddings.
    """

    def __init__(self, sam: Sam, store: EmbeddingStore) -> None:
        self._sam = sam
        self._store = store
        self._steps: DecodeMemo[_Step] = DecodeMemo(_STEP_BYTES, lambda step: step.decoded.n_bytes)
        self._views: DecodeMemo[DecodedView] = DecodeMemo(_VIEW_BYTES, lambda view: view.n_bytes)

    def predict(self, scene: Scene, prompts: PromptSet, preference: Preference) -> ObjectCandidates:
        """Predict the masks of one object; a pure function, whatever is remembered.

        Parameters
        ----------
        scene : Scene
            Where the prompts stand.
        prompts : PromptSet
            At least one prompt, inside the plane.
        preference : {"best", "whole", "part", "sub-part"}
            Which mask of an ambiguous first point is meant, where the prompts name none.

        Returns
        -------
        ObjectCandidates

        Raises
        ------
        InputError
            When the image cannot be shown to the model.
        DeviceError
            When the device fails, or has too little memory.
        """
        first, *following = prompt_steps(prompts)
        meant: int | Preference | None = None
        if first.is_ambiguous:
            meant = preference if prompts.choice is None else prompts.choice
        step = self._step(scene, first, None, meant)
        for further in following:
            step = self._step(scene, further, step, meant)
        candidates = _as_candidates(prompts, step.decoded)
        candidates.masks[candidates.preferred(preference)].at()  # drawn here, not by the window
        return candidates

    def clear(self) -> None:
        """Forget all masks."""
        self._steps.clear()
        self._views.clear()

    def _step(
        self,
        scene: Scene,
        prompts: PromptSet,
        before: _Step | None,
        meant: int | Preference | None,
    ) -> _Step:
        key = scene.key, prompts, meant
        known = self._steps.get(key)
        if known is None:
            known = self._find_object(scene, prompts, before, meant)
            self._steps.put(key, known)
        return known

    def _find_object(
        self,
        scene: Scene,
        prompts: PromptSet,
        before: _Step | None,
        meant: int | Preference | None,
    ) -> _Step:
        """Decode prompts in a view that shows all of what they mean, at a scale the model knows."""
        found = self._grow(scene, _first_view(scene, prompts, before), prompts, before, meant)
        if before is not None or prompts.box is not None or found.score >= _LOST_BELOW:
            return found
        return self._search_scales(scene, found, prompts, meant)

    def _search_scales(
        self, scene: Scene, lost: _Step, prompts: PromptSet, meant: int | Preference | None
    ) -> _Step:
        """Look from further and further away until the model is no surer than before.

        A model that never saw objects as large as this one finds nothing in their middle, and says
        so by its predicted IoU.
        """
        best, view = lost, _coarser(scene, lost.view, prompts)
        while view is not None:
            step = self._grow(scene, view, prompts, None, meant)
            if step.score > best.score + _SURER_BY:
                best = step
            elif best.score >= _LOST_BELOW:
                break
            view = _coarser(scene, step.view, prompts)
        return best if best.score >= _LOST_BELOW else lost

    def _grow(
        self,
        scene: Scene,
        view: View,
        prompts: PromptSet,
        before: _Step | None,
        meant: int | Preference | None,
    ) -> _Step:
        """Decode prompts, in ever wider views until one does not cut the mask that is meant."""
        has_moved = False
        while True:
            decoded = self._look(scene, view, prompts, before)
            step = _Step(view, decoded, _choose(prompts, decoded, meant))
            cut = _extent_if_cut(scene, prompts, decoded, step.chosen)
            wider = _wider(scene, view, cut, prompts, has_moved) if cut else None
            if wider is None:
                return step
            has_moved = wider.frame.factor == view.frame.factor
            view = wider

    def _look(
        self, scene: Scene, view: View, prompts: PromptSet, before: _Step | None
    ) -> DecodedView:
        """Decode prompts in a part of a view, unless that cuts off or loses what they mean.

        The decoder's time goes with the area, and most objects are small. All masks that are
        offered count, since the model is not asked again when another one is chosen.
        """
        closer = closer_view(_known_extent(scene, prompts, before), view, scene.views.spec)
        if closer != view:
            decoded = self._decode(scene, closer, prompts, before)
            offered = range(1 if prompts.is_ambiguous else _SINGLE, len(decoded.candidates))
            is_lost = decoded.masks.predicted_iou.max() < _LOST_BELOW
            if not is_lost and not any(
                _extent_if_cut(scene, prompts, decoded, mask) for mask in offered
            ):
                return decoded
        return self._decode(scene, view, prompts, before)

    def _decode(
        self, scene: Scene, view: View, prompts: PromptSet, before: _Step | None
    ) -> DecodedView:
        """Decode prompts in a view; a first step only once, whichever mask is meant then."""
        key = scene.key, view, prompts
        known = self._views.get(key) if before is None else None
        if known is not None:
            return known
        embedding = self._store.get(scene.frame_key(view.frame), lambda: scene.read(view.frame))
        in_view = _in_view(scene, view, prompts, before)
        decoded = DecodedView(view, decode_all_masks(self._sam, embedding, view, in_view))
        if before is None:
            self._views.put(key, decoded)
        return decoded


def _first_view(scene: Scene, prompts: PromptSet, before: _Step | None) -> View:
    """Stay where the last mask was found while that shows the prompts well; else follow them."""
    prompted = scene.views.clipped(prompts.extent_xyxy)
    needed = scene.views.factor_for(prompts)
    if before is None:
        return scene.views.around(prompted, needed)
    view = before.view
    factor = max(view.frame.factor, needed)
    if view.frame.factor > 1:
        extent = object_extent(before.decoded.view, before.inside, prompts)
        factor = max(scene.views.finer_factor(view, extent or prompted), needed)
    if factor == view.frame.factor and scene.views.shows_well(view, prompted):
        return view
    return scene.views.around(prompted, factor)


def _in_view(scene: Scene, view: View, prompts: PromptSet, before: _Step | None) -> ViewPrompts:
    """Put together what the mask decoder gets: all prompts, and the mask of the step before."""
    region = prompts.box or (prompts.mask and prompts.mask.box)
    logits = None
    if before is not None:
        logits = before.decoded.masks.low_res_logits[before.chosen]
        if before.decoded.view != view:
            logits = low_res_of_other_view(logits, before.decoded.view, view)
    elif prompts.mask is not None:
        logits = low_res_of_mask(prompts.mask.to_array(), prompts.mask.origin_yx, view)
    return ViewPrompts(
        np.array([(point.x, point.y) for point in prompts.points], np.float64).reshape(-1, 2),
        np.array([point.is_positive for point in prompts.points], np.int64),
        scene.views.clipped(region.xyxy) if region else None,
        logits,
    )


def _choose(prompts: PromptSet, decoded: DecodedView, meant: int | Preference | None) -> int:
    """Index of the mask that prompts mean, among all masks."""
    if not prompts.is_ambiguous or meant is None:
        return _SINGLE
    if not isinstance(meant, int):
        meant = _as_candidates(prompts, decoded).preferred(meant)
    return 1 + meant


def _as_candidates(prompts: PromptSet, decoded: DecodedView) -> ObjectCandidates:
    ambiguous = prompts.is_ambiguous
    masks = decoded.candidates[1:] if ambiguous else decoded.candidates
    return ObjectCandidates(prompts, masks, ambiguous, decoded.view.frame.factor)


def _known_extent(scene: Scene, prompts: PromptSet, before: _Step | None) -> Extent:
    """Rectangle around the prompts, and the mask of the step before."""
    prompted = scene.views.clipped(prompts.extent_xyxy)
    mask = before and mask_extent(before.decoded.view, before.inside)
    return union(prompted, mask) if mask else prompted


def _extent_if_cut(
    scene: Scene, prompts: PromptSet, decoded: DecodedView, mask: int
) -> Extent | None:
    """Rectangle around the object, if the view cuts it off; a box says where an object ends."""
    view, inside = decoded.view, decoded.inside(mask)
    if prompts.box is not None or not scene.views.is_cut(view, inside):
        return None
    extent = object_extent(view, inside, prompts)
    return extent if extent and scene.views.reaches_edge(view, extent) else None


def _wider(
    scene: Scene, view: View, cut: Extent, prompts: PromptSet, has_moved: bool
) -> View | None:
    """Find a view that shows more: first around the object as it is seen, then a coarser one."""
    extent, factor = union(scene.views.clipped(prompts.extent_xyxy), cut), view.frame.factor
    wider = scene.views.around(extent, factor)
    if wider.frame.factor == factor and (has_moved or wider.region_yx == view.region_yx):
        wider = scene.views.around(extent, 2 * factor)
    return wider if wider.region_yx != view.region_yx and _is_cheap(scene, wider) else None


def _coarser(scene: Scene, view: View, prompts: PromptSet) -> View | None:
    """Look at the prompts from twice as far, while enough of the plane's pixels remain."""
    if not scene.views.can_be_coarser(view):
        return None
    coarser = scene.views.around(scene.views.clipped(prompts.extent_xyxy), 2 * view.frame.factor)
    return coarser if _is_cheap(scene, coarser) else None


def _is_cheap(scene: Scene, view: View) -> bool:
    """Whether a view that no prompt asks for may be looked at."""
    is_encoded = view.frame == Frame.whole(scene.views.shape_yx)
    return is_encoded or pixels_to_read(scene.image, view.frame) <= _MAX_PIXELS_PER_VIEW
