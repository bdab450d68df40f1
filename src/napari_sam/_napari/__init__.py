"""The napari plugin: the only package that imports napari, Qt and magicgui."""

from __future__ import annotations

__all__: list[str] = []
