"""The objects of labels layers: one table for all widgets, shown as the layer's features."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from napari_sam.pipeline.objects import ObjectTable

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.pipeline.label_target import LabelTarget

__all__ = ["object_table_of", "show_objects"]

_tables: weakref.WeakKeyDictionary[LabelTarget, ObjectTable] = weakref.WeakKeyDictionary()
_INDEX, _PROMPTS = "index", "prompts"


def object_table_of(layer: Labels, target: LabelTarget) -> ObjectTable:
    """Return the objects of a label image, the same table for all who ask.

    Parameters
    ----------
    layer : napari.layers.Labels
        Its features tell the objects that it came with.
    target : LabelTarget
        What is written to for the layer.

    Returns
    -------
    ObjectTable
    """
    table = _tables.get(target)
    if table is None:
        columns = {name: layer.features[name] for name in layer.features}
        table = _tables[target] = ObjectTable.from_columns(columns)
    return table


def show_objects(layer: Labels, table: ObjectTable) -> None:
    """Give a layer the objects of a table as features.

    Features that others gave it stay: their columns, and the rows of labels that are no objects.

    Parameters
    ----------
    layer : napari.layers.Labels
    table : ObjectTable
    """
    import pandas as pd

    own, before = pd.DataFrame(table.as_columns()), layer.features
    foreign = [name for name in before if name not in own]
    if not foreign:
        layer.features = own
        return
    if _INDEX not in before:  # then napari takes row i for label i
        before = before.assign(**{_INDEX: range(len(before))})
    merged = own.merge(before[[_INDEX, *foreign]], on=_INDEX, how="left")
    is_ours = before[_INDEX].isin(own[_INDEX])
    if _PROMPTS in before:
        is_ours |= before[_PROMPTS].notna()  # an object that was deleted
    layer.features = pd.concat([merged, before[~is_ours]], ignore_index=True)
