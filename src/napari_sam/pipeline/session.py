"""One interactive session: prompts, candidate masks, committed objects, undo and redo. No GUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_sam.core.errors import InputError
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import MaskPrompt, PromptSet
from napari_sam.pipeline.commit import (
    OverwriteRule,
    WrittenMask,
    check_rule,
    complete_step,
    draft_masks,
    write_masks,
)
from napari_sam.pipeline.drafts import Draft, EditedObject
from napari_sam.pipeline.history import DraftChange, RecordChange, Step
from napari_sam.pipeline.label_change import LabelChange, LabelEdit
from napari_sam.pipeline.label_target import LabelTarget
from napari_sam.pipeline.objects import ObjectRecord, ObjectTable
from napari_sam.pipeline.prompting import PromptSession

__all__ = ["Session"]


class Session(PromptSession):
    """Prompts become objects of label images, and every step can be undone.

    See :class:`~napari_sam.pipeline.prompting.PromptSession` for the prompts and candidate masks.
    The largest label, the pixels, the records and the prompts of an object are undone together.
    Label pixels that someone else has changed since stay as they are.

    Parameters
    ----------
    history_bytes : int
        Compressed label pixels that are kept in memory for undoing; older ones go to a temporary
        file.
    """

    def __init__(self, history_bytes: int = 2**26) -> None:
        super().__init__(history_bytes)
        self._target: LabelTarget | None = None
        self._tables: dict[LabelTarget, ObjectTable] = {}
        self._cursor: int | None = None

    # --- label images ----------------------------------------------------------------------------

    @property
    def target(self) -> LabelTarget | None:
        """The label image whose objects are edited."""
        return self._target

    def set_target(self, target: LabelTarget | None) -> None:
        """Choose the label image whose objects are edited.

        Parameters
        ----------
        target : LabelTarget or None
        """
        if target is not self._target:
            self._target, self._cursor = target, None
            self._notify()

    @property
    def objects(self) -> ObjectTable:
        """The objects of the current label image."""
        return ObjectTable() if self._target is None else self.objects_of(self._target)

    def objects_of(self, target: LabelTarget) -> ObjectTable:
        """Return the objects of a label image.

        Parameters
        ----------
        target : LabelTarget

        Returns
        -------
        ObjectTable
        """
        return self._tables.setdefault(target, ObjectTable())

    def load_objects(self, target: LabelTarget, table: ObjectTable) -> None:
        """Take the objects of a label image as they were stored with it.

        Parameters
        ----------
        target : LabelTarget
        table : ObjectTable
        """
        self._tables[target] = table
        self._notify()

    def discard_target(self, target: LabelTarget) -> None:
        """Forget a label image that is gone, its objects, and how they can be undone.

        Parameters
        ----------
        target : LabelTarget
        """
        self._tables.pop(target, None)
        if self._target is target:
            self._target = self._cursor = None
        self._drafts = {
            plane: draft.without_target(target) for plane, draft in self._drafts.items()
        }
        self._history.rewrite(lambda step: step.without_target(target))
        self._refresh()

    # --- objects ---------------------------------------------------------------------------------

    def commit(self, target: LabelTarget, rule: OverwriteRule = "keep") -> tuple[ObjectRecord, ...]:
        """Write the chosen masks into a label image, as objects that do not overlap.

        The prompts of the plane are removed. An edited object keeps its label and loses its old
        pixels; all others get new labels. Where masks overlap, the one of the higher predicted IoU
        gets the pixels.

        Parameters
        ----------
        target : LabelTarget
        rule : {"keep", "overwrite", "only_empty"}
            Where a mask meets an object that was there before: that object keeps its pixels, or
            loses them, or the commit is refused.

        Returns
        -------
        tuple of ObjectRecord
            One per object.

        Raises
        ------
        InputError
            When there is no mask or it is still being computed, a mask has no pixel or none left,
            or the rule forbids it. Nothing is written then.
        OutputError
            When the labels cannot be written; they are put back.
        """
        check_rule(rule)
        plane = self._require_masks()
        scores = [self._choice.mask(i).predicted_iou for i in range(len(self.candidates))]
        drafted = draft_masks(target, self._draft, self.chosen_masks(), scores)
        with LabelEdit(target) as edit:
            written = write_masks(edit, target.plane_of(plane), drafted, rule)
        records = self._records(plane, [mask.label for mask in drafted], written)
        count = len(records)
        description = (
            f"Commit object {records[0].label}" if count == 1 else f"Commit {count} objects"
        )
        if target is not self._target:
            self._target, self._cursor = target, None
        self._next_is_positive = True
        drafts = (DraftChange(plane, self._draft, Draft()),)
        step = Step(description, drafts, tuple(edit.changes))
        self._push(complete_step(step, target, self.objects_of(target), records))
        return records

    def edit(self, label: int) -> ObjectRecord:
        """Take up the prompts of a committed object again; the next commit replaces it.

        The plane becomes that of the object. Prompts that stand there make way.

        Parameters
        ----------
        label : int
            An object of the current label image.

        Returns
        -------
        ObjectRecord

        Raises
        ------
        InputError
            When the object has no stored prompts.
        """
        target, record = self._target, self.objects.get(label)
        if target is None or record is None or record.prompts.is_empty:
            raise InputError(
                f"Object {label} has no stored prompts",
                rule="Prompts can be taken up again for objects that were made with them",
                cure="Refine the object from its own mask",
            )
        edited = EditedObject(label, target, record.prompts, record.region_yx)
        self._cursor = label
        self._take_up(record.plane, Draft.of(record.prompts, edited), f"Edit object {label}")
        return record

    def refine(self, label: int | None, mask: MaskPrompt) -> None:
        """Take up an object from its own mask; the next commit replaces it.

        Parameters
        ----------
        label : int or None
            An object of the current label image. None for a mask from elsewhere, which becomes a
            new object.
        mask : MaskPrompt
            Its pixels on the plane that is shown.

        Raises
        ------
        InputError
            When no plane is shown, or a label is given and no label image is chosen.
        """
        plane, prompts = self._require_plane(), PromptSet(mask=mask)
        if label is None:
            self._take_up(plane, Draft.of(prompts), "Refine a mask")
            return
        if self._target is None:
            raise _no_target()
        edited = EditedObject(label, self._target, prompts, mask.region_yx)
        self._cursor = label
        self._take_up(plane, Draft.of(prompts, edited), f"Refine object {label}")

    @property
    def edited_label(self) -> int | None:
        """The object that the next commit replaces, if any."""
        edited = self._draft.edited
        return edited.label if edited is not None and edited.target is self._target else None

    def delete(self, label: int, target: LabelTarget | None = None) -> None:
        """Erase an object from its plane, and forget its prompts.

        Parameters
        ----------
        label : int
            Without a record, it is looked for on the plane that is shown.
        target : LabelTarget, optional
            By default, the current label image.

        Raises
        ------
        InputError
            When no such object was found, or no label image is chosen.
        OutputError
            When the labels cannot be written; they are put back.
        """
        target = target or self._target
        if target is None:
            raise _no_target()
        record = self.objects_of(target).get(label)
        plane = self._require_plane() if record is None else record.plane
        region = None if record is None else record.region_yx
        with LabelEdit(target) as edit:
            edit.erase(label, target.plane_of(plane), region)
        if not edit.changes and record is None:
            raise InputError(
                f"Label {label} was to be deleted",
                rule="The label lies on the plane that is shown",
                cure="Go to a plane on which the object can be seen",
            )
        step = Step(
            f"Delete object {label}",
            drafts=self._drafts_without(target, label),
            labels=tuple(edit.changes),
            records=() if record is None else (RecordChange(target, label, record, None),),
        )
        self._push(step)

    def next_object(self) -> ObjectRecord | None:
        """Go to the object of the next larger label.

        Returns
        -------
        ObjectRecord or None
            None, and nothing moved, after the last one.
        """
        return self._go_to(self.objects.after(self._cursor))

    def previous_object(self) -> ObjectRecord | None:
        """Go to the object of the next smaller label.

        Returns
        -------
        ObjectRecord or None
            None, and nothing moved, before the first one.
        """
        return self._go_to(self.objects.before(self._cursor))

    def record_change(
        self,
        description: str,
        changes: Sequence[LabelChange],
        records: Sequence[ObjectRecord] = (),
    ) -> None:
        """Take what an automatic run wrote as one step that can be undone.

        Parameters
        ----------
        description : str
            A few words for a menu.
        changes : sequence of LabelChange
            What was written, in order, to one label image; from
            :func:`~napari_sam.pipeline.label_change.change_labels`.
        records : sequence of ObjectRecord
            The objects that were found.

        Raises
        ------
        InputError
            When the changes belong to several label images.
        """
        targets = list(dict.fromkeys(change.target for change in changes))
        if len(targets) > 1:
            raise InputError(
                f"Changes of {len(targets)} label images were given",
                rule="A step changes one label image",
                cure="Record the changes of each label image by themselves",
            )
        if targets:
            step = Step(description, labels=tuple(changes))
            self._push(complete_step(step, targets[0], self.objects_of(targets[0]), records))

    # --- steps -----------------------------------------------------------------------------------

    def _records(
        self, plane: Plane, labels: Sequence[int], written: Sequence[WrittenMask]
    ) -> tuple[ObjectRecord, ...]:
        records = []
        for i, prompts in enumerate(self._draft.objects()):
            own, mask, index = self.candidates[i], self._choice.mask(i), self.chosen[i]
            if prompts.choice is None:
                first = index if own.is_ambiguous else own.first_choice
                prompts = replace(prompts, choice=first)
            record = ObjectRecord(
                labels[i],
                plane,
                prompts,
                float(mask.predicted_iou),
                float(mask.stability_score),
                written[i].area,
                written[i].box_xyxy,
                index,
                self._threshold,
                self._preference,
            )
            records.append(record)
        return tuple(records)

    def _push(self, step: Step) -> None:
        """Take a step whose pixels are written already."""
        self._history.push(step)
        self._restore_records(step, is_undo=False)
        for change in step.drafts:
            self._put_draft(change.plane, change.after)
        self._refresh()

    def _restore(self, step: Step, *, is_undo: bool) -> None:
        for change in reversed(step.labels) if is_undo else step.labels:
            if is_undo:
                change.undo()
            else:
                change.redo()
        self._restore_records(step, is_undo=is_undo)
        super()._restore(step, is_undo=is_undo)

    def _restore_records(self, step: Step, *, is_undo: bool) -> None:
        for change in step.records:
            self._put_record(change, change.before if is_undo else change.after)
        for maximum in step.maxima:
            ends = (maximum.before, maximum.after)
            maximum.target.move_written_maximum(*(reversed(ends) if is_undo else ends))

    def _put_record(self, change: RecordChange, record: ObjectRecord | None) -> None:
        table = self.objects_of(change.target)
        if record is None:
            table.remove(change.label)
        else:
            table.put(record)

    def _take_up(self, plane: Plane, draft: Draft, description: str) -> None:
        self._show(plane)
        self._drop_candidates()  # they belong to another object
        self._change_draft(description, draft)

    def _drafts_without(self, target: LabelTarget, label: int) -> tuple[DraftChange, ...]:
        changes = (
            DraftChange(plane, draft, draft.without_target(target, label))
            for plane, draft in self._drafts.items()
        )
        return tuple(change for change in changes if change.before != change.after)

    def _go_to(self, record: ObjectRecord | None) -> ObjectRecord | None:
        if record is not None:
            self._cursor = record.label
            self._notify()
        return record


def _no_target() -> InputError:
    return InputError(
        "No label image is chosen",
        rule="Objects belong to a label image",
        cure="Choose a labels layer",
    )
