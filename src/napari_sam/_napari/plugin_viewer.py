"""The viewer that napari hands to a plugin's widget."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["unwrapped"]


def unwrapped(viewer: napari.viewer.Viewer) -> napari.viewer.Viewer:
    """Take a viewer out of the proxy that napari passes to plugins.

    The proxy wraps each layer anew whenever it is asked for one, so that no layer is itself any
    more, and two lists of layers are never the same.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        The viewer, or the proxy of it.

    Returns
    -------
    napari.viewer.Viewer
    """
    return cast("napari.viewer.Viewer", getattr(viewer, "__wrapped__", viewer))
