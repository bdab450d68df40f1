"""The first half of a session: prompts, candidate masks, and steps that can be undone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import PlacedPrompts, PromptSet
from napari_sam.pipeline.candidates import (
    MaskPatch,
    ObjectCandidates,
    PredictionRequest,
    Preference,
    check_preference,
    check_threshold,
)
from napari_sam.pipeline.choices import CandidateChoice, without_choice
from napari_sam.pipeline.drafts import Draft, describe_change
from napari_sam.pipeline.history import DraftChange, Step
from napari_sam.pipeline.undoing import UndoableSession

__all__ = ["PromptSession"]


class PromptSession(UndoableSession):
    """Prompts on the planes of an image, and the masks that the model offers for them.

    It computes nothing itself: :meth:`request` tells what is wanted, a worker asks the model, and
    :meth:`apply` takes the answer, unless the prompts have changed meanwhile. All methods are to be
    called from one thread.

    Parameters
    ----------
    history_bytes : int
        Compressed label pixels that are kept in memory for undoing; older ones go to a temporary
        file.
    """

    def __init__(self, history_bytes: int = 2**26) -> None:
        super().__init__(history_bytes)
        self._image_key: Hashable = None
        self._plane: Plane | None = None
        self._drafts: dict[Plane, Draft] = {}
        self._choice = CandidateChoice()
        self._preference: Preference = "best"
        self._threshold = 0.0
        self._next_is_positive = True
        self._wanted: Hashable = None
        self._revision = 0
        self._applied: int | None = None

    # --- image and plane -------------------------------------------------------------------------

    def set_image(self, key: Hashable) -> None:
        """Say which image the prompts stand on.

        Parameters
        ----------
        key : hashable
            Another one for another image. For the same image this is :meth:`reset`; for another
            one, prompts and the steps that changed them are forgotten, and the plane is None.
        """
        if key != self._image_key:
            self._image_key, self._plane, self._drafts = key, None, {}
            self._history.rewrite(lambda step: replace(step, drafts=()))
        self.reset()

    def reset(self) -> None:
        """Drop all candidate masks, as they belong to another model, contrast or channel.

        Prompts stay, so :meth:`request` asks again.
        """
        self._drop_candidates()
        self._wanted = None
        self._revision += 1
        self._refresh()

    @property
    def plane(self) -> Plane | None:
        """The plane of the image that is shown.

        Undoing, and editing an object, may move it to where something changed.
        """
        return self._plane

    def set_plane(self, plane: Plane | None) -> None:
        """Go to another plane; its prompts come back.

        Parameters
        ----------
        plane : Plane or None
        """
        if plane != self._plane:
            self._show(plane)
            self._refresh()

    # --- prompts ---------------------------------------------------------------------------------

    @property
    def prompts(self) -> PlacedPrompts:
        """The prompts on the plane."""
        return self._draft.prompts

    @property
    def objects_prompts(self) -> tuple[PromptSet, ...]:
        """The prompts on the plane, object by object."""
        return self._draft.objects()

    def set_prompts(self, prompts: PlacedPrompts) -> None:
        """Exchange the prompts on the plane.

        Parameters
        ----------
        prompts : PlacedPrompts

        Raises
        ------
        InputError
            When no plane is shown.
        """
        if prompts != self.prompts:
            description = describe_change(self.prompts, prompts)
            self._change_draft(description, self._draft.with_prompts(prompts))

    def clear_prompts(self) -> None:
        """Remove all prompts from the plane; the next point is positive."""
        self._next_is_positive = True
        if self._plane is None:
            self._notify()
        else:
            self._change_draft("Clear prompts", Draft())

    @property
    def next_is_positive(self) -> bool:
        """Whether the next point will lie on the object."""
        return self._next_is_positive

    def flip_sign(self) -> None:
        """Make the next point a negative one, or a positive one again."""
        self._next_is_positive = not self._next_is_positive
        self._notify()

    # --- candidate masks -------------------------------------------------------------------------

    def request(self) -> PredictionRequest | None:
        """Tell what the model has to compute.

        Returns
        -------
        PredictionRequest or None
            None when there are no prompts, or their candidate masks are there already.
        """
        objects = self._draft.objects()
        if self._plane is None or not objects or self._applied == self._revision:
            return None
        return PredictionRequest(self._revision, self._plane, objects, self._preference)

    def request_for(self, prompts: PlacedPrompts) -> PredictionRequest | None:
        """Tell what the model would have to compute if other prompts stood on the plane.

        Parameters
        ----------
        prompts : PlacedPrompts

        Returns
        -------
        PredictionRequest or None
            None when no object is prompted. :meth:`apply` does not take the answer to it.
        """
        objects = self._draft.with_prompts(prompts).objects()
        if self._plane is None or not objects:
            return None
        return PredictionRequest(-1, self._plane, objects, self._preference)

    def apply(self, request: PredictionRequest, result: Sequence[ObjectCandidates]) -> bool:
        """Take the answer of the model.

        Parameters
        ----------
        request : PredictionRequest
            What was asked.
        result : sequence of ObjectCandidates
            One for each object of the request, in order.

        Returns
        -------
        bool
            False, and nothing changed, when the request is not the latest any more.
        """
        if request.revision != self._revision:
            return False
        self._choice.take(result)
        self._applied = self._revision
        self._refresh()
        return True

    @property
    def candidates(self) -> tuple[ObjectCandidates, ...]:
        """The candidate masks of each object; until new ones come, those of the last prompts."""
        return self._choice.candidates

    @property
    def is_current(self) -> bool:
        """Whether the candidate masks belong to the prompts as they are."""
        return bool(self.candidates) and self._applied == self._revision

    @property
    def chosen(self) -> tuple[int, ...]:
        """For each object, the index of its chosen mask."""
        return tuple(self._choice.chosen)

    @property
    def active(self) -> int | None:
        """Index of the object that :meth:`cycle` acts on; the one whose prompts changed last."""
        return self._choice.active

    def activate(self, index: int) -> None:
        """Make an object the active one.

        Parameters
        ----------
        index : int

        Raises
        ------
        InputError
            When no such object has candidate masks.
        """
        self._choice.activate(index)
        self._notify()

    def cycle(self, step: int = 1) -> None:
        """Choose the next mask of the active object.

        Parameters
        ----------
        step : int
            How many masks to go on; negative goes back.
        """
        if self.is_current and self.active is not None:
            count = len(self.candidates[self.active].masks)
            self.choose((self.chosen[self.active] + step) % count)

    def choose(self, index: int) -> None:
        """Choose a mask of the active object; does nothing while new masks are being computed.

        For an ambiguous point this can be undone, and later points go on from that mask.

        Parameters
        ----------
        index : int

        Raises
        ------
        InputError
            When the object has no such mask.
        """
        if not self.is_current or self.active is None:
            return
        self._choice.require_mask(index)
        if not self.candidates[self.active].is_ambiguous:
            self._choice.chosen[self.active] = index
            self._notify()
        elif index != self.chosen[self.active]:
            self._change_draft("Choose mask", replace(self._draft, choice=index))

    def chosen_masks(self) -> tuple[MaskPatch, ...]:
        """Cut out the chosen mask of each object.

        Returns
        -------
        tuple of MaskPatch
            They may overlap.
        """
        return self._choice.patches(self._threshold)

    @property
    def preference(self) -> Preference:
        """Which of the three masks of an ambiguous point is chosen; it stays for later objects."""
        return self._preference

    @preference.setter
    def preference(self, preference: Preference) -> None:
        check_preference(preference)
        self._preference = preference
        is_open = any(prompts.is_ambiguous for prompts in self._draft.objects())
        if is_open and self._draft.choice is not None:
            self._change_draft("Choose mask", replace(self._draft, choice=None))
        else:
            self._refresh()

    @property
    def threshold(self) -> float:
        """Threshold of the mask logits; a higher one makes masks smaller."""
        return self._threshold

    @threshold.setter
    def threshold(self, threshold: float) -> None:
        check_threshold(threshold)
        self._threshold = float(threshold)
        self._notify()

    # --- what the other half builds on -----------------------------------------------------------

    @property
    def _draft(self) -> Draft:
        return Draft() if self._plane is None else self._drafts.get(self._plane, Draft())

    def _require_plane(self) -> Plane:
        if self._plane is None:
            raise InputError(
                "No plane of an image is shown",
                rule="Prompts stand on a plane of an image",
                cure="Choose an image and show two of its axes",
            )
        return self._plane

    def _require_masks(self) -> Plane:
        plane = self._require_plane()
        if not self._draft.objects():
            raise InputError(
                "There is nothing to commit",
                rule="A mask comes from at least one positive point, a box or a mask",
                cure="Click on an object first",
            )
        if not self.is_current:
            raise InputError(
                "The masks for the last prompts are still being computed",
                rule="Only a mask that was shown is committed",
                cure="Commit once the mask is there",
            )
        return plane

    def _show(self, plane: Plane | None) -> None:
        if plane != self._plane:
            self._plane = plane
            self._drop_candidates()

    def _drop_candidates(self) -> None:
        self._choice.drop()
        self._applied = None  # so that they are asked for again

    def _put_draft(self, plane: Plane, draft: Draft) -> None:
        self._drafts[plane] = draft
        if draft == Draft():
            del self._drafts[plane]

    def _change_draft(self, description: str, draft: Draft) -> None:
        plane, before = self._require_plane(), self._draft
        if draft != before:
            self._history.push(Step(description, drafts=(DraftChange(plane, before, draft),)))
            self._put_draft(plane, draft)
        self._refresh()

    def _restore(self, step: Step, *, is_undo: bool) -> None:
        for change in step.drafts:
            self._put_draft(change.plane, change.before if is_undo else change.after)
            self._show(change.plane)

    def _refresh(self) -> None:
        """Count a revision if the model has to be asked again, choose masks, tell listeners."""
        objects = self._draft.objects()
        is_chained = any(
            not own.has_region and own.choice is None and len(own.points) > 1 for own in objects
        )
        asked = tuple(without_choice(own) for own in objects)
        wanted = (self._plane, asked, self._preference if is_chained else None)
        if wanted != self._wanted:
            self._wanted = wanted
            self._revision += 1
        if not objects:
            self._drop_candidates()
        elif self.is_current:
            self._choice.follow(objects, self._preference)
        self._notify()
