"""Tell whether a layer still holds the data that something was computed from."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer

__all__ = ["data_token"]


class _Watch:
    """Follows the data of one layer without keeping it alive."""

    def __init__(self, layer: Layer) -> None:
        self._follow(layer.data)
        layer.events.data.connect(self.renew)  # napari refers weakly to the method's object

    def token(self, data: Any) -> Hashable:
        if self._data() is not data:  # replaced while events were blocked
            self._follow(data)
        return self._token

    def renew(self, event: Any = None) -> None:
        self._token = object()

    def _follow(self, data: Any) -> None:
        try:
            self._data: Any = weakref.ref(data)
        except TypeError:  # some foreign arrays cannot be referred to weakly
            self._data = lambda: data
        self._token = object()


_watches: weakref.WeakKeyDictionary[Layer, _Watch] = weakref.WeakKeyDictionary()


def data_token(layer: Layer) -> Hashable:
    """Return what is equal as long as a layer keeps its data.

    Renaming, moving or showing another slice keep the token; ``layer.data = ...`` changes it, also
    when the same array is given again after its pixels were changed in place. To be called in the
    thread of the window.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    hashable
        Equal to that of no other layer.
    """
    watch = _watches.get(layer)
    if watch is None:
        watch = _watches[layer] = _Watch(layer)
    return watch.token(layer.data)
