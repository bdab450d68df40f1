"""Shape and meaning of a label image on disk, and the NGFF metadata that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from napari_sam.core.errors import ConfigError

__all__ = ["LabelLayout", "NgffVersion"]

NgffVersion = Literal["0.4", "0.5"]

COARSEST = 256
"""The pyramid ends when a level's rows and columns both fit into this many pixels."""
MAX_LEVELS = 32
AXIS_TYPES = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}


@dataclass(frozen=True)
class LabelLayout:
    """Shape and meaning of a label store.

    Parameters
    ----------
    axes : str
        Letters of TCZYX in this order, ending in YX.
    shape : tuple of int
        Length along each axis.
    scale : tuple of float
        Pixel size along each axis.
    units : tuple of (str or None)
        Unit of each axis as NGFF spells it.
    chunk : int
        Rows and columns of a chunk, in pixels; one chunk is one slice thick.
    ngff_version : str
        ``"0.5"`` on Zarr 3, or ``"0.4"`` on Zarr 2.
    translate : tuple of float, optional
        Position of the first pixel along each axis, in `units`; the origin when not given.
    names : tuple of str, optional
        Name of each axis; by default its letter in lower case.
    dtype : str
        Type of the ids: ``"uint32"``, or ``"uint64"`` where those do not suffice.
    max_levels : int
        The pyramid has no more levels than this.

    Raises
    ------
    ConfigError
        When the version is another one or the chunk has no pixels.
    """

    axes: str
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    units: tuple[str | None, ...]
    chunk: int = 512
    ngff_version: NgffVersion = "0.5"
    translate: tuple[float, ...] | None = None
    names: tuple[str, ...] | None = None
    dtype: str = "uint32"
    max_levels: int = MAX_LEVELS

    def __post_init__(self) -> None:
        if self.ngff_version not in ("0.4", "0.5") or self.chunk < 1:
            raise ConfigError(
                f"NGFF version {self.ngff_version} with chunks of {self.chunk} was asked for",
                rule="Labels are written as NGFF 0.4 or 0.5, in chunks of at least one pixel",
                cure="Use version 0.5 and chunks of 512",
            )

    @property
    def level_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each pyramid level; only rows and columns shrink."""
        shapes = [self.shape]
        while (
            len(shapes) < self.max_levels
            and max(shapes[-1][-2:]) > COARSEST
            and min(shapes[-1][-2:]) > 1
        ):
            rows, columns = shapes[-1][-2:]
            shapes.append((*self.shape[:-2], -(-rows // 2), -(-columns // 2)))
        return tuple(shapes)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Name of each axis as it stands in the metadata."""
        return self.names or tuple(self.axes.lower())

    def attributes(self, name: str, source_image: str | None) -> dict[str, Any]:
        """Build the NGFF metadata.

        Parameters
        ----------
        name : str
            Name of the label image.
        source_image : str, optional
            Path of the OME-Zarr image that the labels belong to, relative to the label store.

        Returns
        -------
        dict
            Attributes of the group, without the state.
        """
        multiscale: dict[str, Any] = {
            "name": name,
            "axes": [self._axis(i) for i in range(len(self.axes))],
            "datasets": [self._dataset(level) for level in range(len(self.level_shapes))],
            "type": "nearest",  # how levels were made; labels are never averaged
        }
        image_label: dict[str, Any] = {"version": self.ngff_version}
        if source_image is not None:
            image_label["source"] = {"image": source_image}
        if self.ngff_version == "0.4":
            multiscale["version"] = "0.4"
            return {"multiscales": [multiscale], "image-label": image_label}
        ome = {"version": "0.5", "multiscales": [multiscale], "image-label": image_label}
        return {"ome": ome}

    def _axis(self, i: int) -> dict[str, str]:
        axis = {"name": self.axis_names[i], "type": AXIS_TYPES[self.axes[i]]}
        unit = self.units[i]
        return axis | ({"unit": unit} if unit else {})

    def _dataset(self, level: int) -> dict[str, Any]:
        factors = [1] * (len(self.axes) - 2) + [2**level] * 2
        scale = [size * factor for size, factor in zip(self.scale, factors, strict=True)]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if self.translate is not None and any(self.translate):
            # Level by level the same: pixel 0 of all levels stands at the same place.
            transforms.append({"type": "translation", "translation": list(self.translate)})
        return {"path": str(level), "coordinateTransformations": transforms}
