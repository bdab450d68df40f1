"""What stands on a plane and is not committed yet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from napari_sam.core.prompts import PlacedPrompts, PointPrompt, PromptSet
from napari_sam.core.region import Region
from napari_sam.pipeline.label_target import LabelTarget

__all__ = ["Draft", "EditedObject", "describe_change"]


@dataclass(frozen=True)
class EditedObject:
    """An object of a label image whose prompts were taken up again.

    Parameters
    ----------
    label : int
        Its id, which it keeps.
    target : LabelTarget
        The label image that it belongs to.
    prompts : PromptSet
        The prompts as they were taken up.
    region_yx : Region
        Where its pixels are.
    """

    label: int
    target: LabelTarget
    prompts: PromptSet
    region_yx: Region


@dataclass(frozen=True)
class Draft:
    """The prompts on one plane, and what was decided about them.

    Parameters
    ----------
    prompts : PlacedPrompts
    choice : int, optional
        Which mask of the first point outside of all boxes and masks was taken.
    edited : EditedObject, optional
        The object that the next commit replaces.
    """

    prompts: PlacedPrompts = field(default_factory=PlacedPrompts)
    choice: int | None = None
    edited: EditedObject | None = None

    @classmethod
    def of(cls, prompts: PromptSet, edited: EditedObject | None = None) -> Draft:
        """Take up the prompts of one object.

        Parameters
        ----------
        prompts : PromptSet
        edited : EditedObject, optional
            The object, where it is in a label image already.

        Returns
        -------
        Draft
        """
        return cls(PlacedPrompts.of(prompts), prompts.choice, edited)

    def objects(self) -> tuple[PromptSet, ...]:
        """Tell the prompts of each object.

        Returns
        -------
        tuple of PromptSet
        """
        return tuple(
            prompts if prompts.has_region else replace(prompts, choice=self.choice)
            for prompts in self.prompts.by_object()
        )

    def with_prompts(self, prompts: PlacedPrompts) -> Draft:
        """Exchange the prompts, and keep the decisions that still hold.

        Parameters
        ----------
        prompts : PlacedPrompts

        Returns
        -------
        Draft
            The choice stays as long as the first point does. With the last prompt, an edited
            object is left alone.
        """
        first = _first_free_point(prompts)
        same = first is not None and first == _first_free_point(self.prompts)
        edited = None if prompts.is_empty else self.edited
        return Draft(prompts, self.choice if same else None, edited)

    def without_target(self, target: LabelTarget, label: int | None = None) -> Draft:
        """Let go of an edited object that is gone; its prompts stay.

        Parameters
        ----------
        target : LabelTarget
        label : int, optional
            Only this object of the target; by default, any.

        Returns
        -------
        Draft
        """
        if self.edited is None or self.edited.target is not target:
            return self
        return replace(self, edited=None) if label in (None, self.edited.label) else self

    def edited_index(self, target: LabelTarget) -> int | None:
        """Tell which object takes the place of the edited one.

        Parameters
        ----------
        target : LabelTarget
            Where the objects will be written.

        Returns
        -------
        int or None
            Index into :meth:`objects`: the one that shares most prompts with the edited object.
        """
        if self.edited is None or self.edited.target is not target:
            return None
        loaded = self.edited.prompts
        shared = [_n_shared(prompts, loaded) for prompts in self.prompts.by_object()]
        return shared.index(max(shared)) if shared else None


def describe_change(before: PlacedPrompts, after: PlacedPrompts) -> str:
    """Say in a few words how prompts changed, for a menu.

    Parameters
    ----------
    before, after : PlacedPrompts

    Returns
    -------
    str
    """
    changed = [
        name for name in ("point", "box", "mask") if _named(before, name) != _named(after, name)
    ]
    if len(changed) != 1:
        return "Change prompts"
    n_before, n_after = len(_named(before, changed[0])), len(_named(after, changed[0]))
    verb = "Add" if n_after > n_before else "Remove" if n_after < n_before else "Change"
    return f"{verb} {changed[0]}"


def _named(prompts: PlacedPrompts, name: str) -> tuple[object, ...]:
    return {"point": prompts.points, "box": prompts.boxes, "mask": prompts.masks}[name]


def _first_free_point(prompts: PlacedPrompts) -> PointPrompt | None:
    free = [own for own in prompts.by_object() if not own.has_region]
    return free[0].points[0] if free else None


def _n_shared(prompts: PromptSet, other: PromptSet) -> int:
    regions = (prompts.box is not None and prompts.box == other.box) + (
        prompts.mask is not None and prompts.mask == other.mask
    )
    return regions + len(set(prompts.points) & set(other.points))
