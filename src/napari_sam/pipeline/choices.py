"""The candidate masks of a session, and which of them are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_sam.core.errors import InputError
from napari_sam.core.prompts import PromptSet
from napari_sam.pipeline.candidates import CandidateMask, MaskPatch, ObjectCandidates, Preference

__all__ = ["CandidateChoice", "without_choice"]


class CandidateChoice:
    """Candidate masks of some objects, one of each chosen, and one object active."""

    def __init__(self) -> None:
        self.candidates: tuple[ObjectCandidates, ...] = ()
        self.chosen: list[int] = []
        """For each object, the index of its chosen mask."""
        self.active: int | None = None
        """Index of the object that keys act on."""

    def take(self, candidates: Sequence[ObjectCandidates]) -> None:
        """Take new candidates; objects whose prompts did not change keep their chosen mask.

        Parameters
        ----------
        candidates : sequence of ObjectCandidates
        """
        old = {
            without_choice(own.prompts): index
            for own, index in zip(self.candidates, self.chosen, strict=True)
        }
        prompts = [without_choice(own.prompts) for own in candidates]
        new = [i for i, own in enumerate(prompts) if own not in old]
        last = len(prompts) - 1
        active = new[-1] if new else last if self.active is None else min(self.active, last)
        self.candidates = tuple(candidates)
        self.chosen = [old.get(own, 0) for own in prompts]
        self.active = active if prompts else None

    def drop(self) -> None:
        """Forget all candidates."""
        self.take(())

    def follow(self, objects: Sequence[PromptSet], preference: Preference) -> None:
        """Choose among the masks of ambiguous prompts.

        Parameters
        ----------
        objects : sequence of PromptSet
            The prompts that the candidates belong to, with what was chosen for them.
        preference : {"best", "whole", "part", "sub-part"}
            Decides where nothing was chosen.
        """
        for i, (own, prompts) in enumerate(zip(self.candidates, objects, strict=True)):
            if own.is_ambiguous:
                is_open = prompts.choice is None
                self.chosen[i] = own.preferred(preference) if is_open else prompts.choice or 0

    def activate(self, index: int) -> None:
        """Make an object the active one.

        Parameters
        ----------
        index : int

        Raises
        ------
        InputError
            When there is no such object.
        """
        _require_index(index, len(self.candidates), "objects have candidate masks")
        self.active = index

    def require_mask(self, index: int) -> None:
        """Refuse an index that is none of the active object's masks.

        Parameters
        ----------
        index : int

        Raises
        ------
        InputError
        """
        masks = () if self.active is None else self.candidates[self.active].masks
        _require_index(index, len(masks), "masks are offered for the object")

    def mask(self, i: int) -> CandidateMask:
        """Return the chosen mask of an object.

        Parameters
        ----------
        i : int
            Index of the object.

        Returns
        -------
        CandidateMask
        """
        return self.candidates[i].masks[self.chosen[i]]

    def patches(self, threshold: float) -> tuple[MaskPatch, ...]:
        """Cut out the chosen masks.

        Parameters
        ----------
        threshold : float
            Of the mask logits.

        Returns
        -------
        tuple of MaskPatch
            One per object.
        """
        return tuple(self.mask(i).at(threshold) for i in range(len(self.candidates)))


def without_choice(prompts: PromptSet) -> PromptSet:
    """Leave out what the model does not need to know.

    Parameters
    ----------
    prompts : PromptSet

    Returns
    -------
    PromptSet
        Of ambiguous prompts, all three masks are predicted, whichever is chosen.
    """
    return replace(prompts, choice=None) if prompts.is_ambiguous else prompts


def _require_index(index: int, count: int, what: str) -> None:
    if index not in range(count):
        raise InputError(
            f"The index {index} was given",
            rule=f"{count} {what}",
            cure="Count from 0, or wait for the masks that are being computed",
        )
