"""Labels layers that show what a session writes, and the objects that it knows of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam._napari.label_layers import refresh_after_write
from napari_sam._napari.object_tables import object_table_of, show_objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari.layers import Labels

    from napari_sam.pipeline.label_target import LabelTarget
    from napari_sam.pipeline.session import Session

__all__ = ["FollowedLayers"]


class FollowedLayers:
    """The labels layers that a session writes into.

    Parameters
    ----------
    session : Session
        What writes into them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._targets: dict[Labels, LabelTarget] = {}
        self._shown: dict[Labels, tuple[int, int]] = {}  # revisions of pixels and of the table

    def __iter__(self) -> Iterator[Labels]:
        return iter(self._targets)

    def target_of(self, layer: Labels) -> LabelTarget | None:
        """Return what is written to for a layer; None for one that is not followed."""
        return self._targets.get(layer)

    def follow(self, layer: Labels, target: LabelTarget) -> bool:
        """Take over the objects that a layer has, whoever made them.

        Parameters
        ----------
        layer : napari.layers.Labels
        target : LabelTarget
            What is written to for it.

        Returns
        -------
        bool
            Whether the layer was not followed before.
        """
        known = self._targets.get(layer)
        if target is known:
            return False
        table = object_table_of(layer, target)
        self._targets[layer] = target
        self._shown[layer] = target.revision, table.revision
        self._session.load_objects(target, table)
        if known is not None:
            self._session.discard_target(known)  # the layer was given other pixels
        return known is None

    def drop(self, layer: Labels) -> LabelTarget | None:
        """Follow a layer no more.

        Parameters
        ----------
        layer : napari.layers.Labels
            May be one that is not followed.

        Returns
        -------
        LabelTarget or None
            What was written to for it; the session still knows it.
        """
        self._shown.pop(layer, None)
        return self._targets.pop(layer, None)

    def clear(self) -> None:
        """Follow no layer any more."""
        self._targets.clear()
        self._shown.clear()

    def show_changes(self) -> None:
        """Bring the layers up to date with what the session wrote."""
        for layer, target in self._targets.items():
            table = self._session.objects_of(target)
            pixels, rows = self._shown[layer]
            self._shown[layer] = target.revision, table.revision
            if pixels != target.revision:
                refresh_after_write(layer, target)
            if rows != table.revision:
                show_objects(layer, table)
