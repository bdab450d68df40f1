"""A label image that is to be saved: what it holds, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.axes import canonical_order, normalize_axes
from napari_sam.core.errors import InputError
from napari_sam.io.label_layout import LabelLayout, NgffVersion

__all__ = ["Block", "LabelImage"]

Block = tuple[slice, ...]
"""A piece of an array: one slice per axis, without steps."""


@dataclass(frozen=True)
class LabelImage:
    """A label image and what is known of it.

    Parameters
    ----------
    data : array-like
        Shape, dtype and indexing suffice: numpy, Zarr, Dask. Integers or booleans.
    axes : str
        One letter of TCZYX per axis, in the order of `data`. It is stored in the order TCZYX.
    scale, translate : sequence of float, optional
        Pixel size, and position of the first pixel, along each axis.
    units : sequence of (str or None), optional
        Unit of each axis as NGFF spells it.
    names : sequence of str, optional
        Name of each axis, where it is not its letter.
    properties : sequence of mapping
        The table of objects, see :meth:`LabelStore.write_properties`.

    Raises
    ------
    InputError
        When these are no labels, or something has not one value per axis.
    """

    data: Any
    axes: str
    scale: Sequence[float] | None = None
    translate: Sequence[float] | None = None
    units: Sequence[str | None] | None = None
    names: Sequence[str] | None = None
    properties: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        shape, kind = tuple(self.data.shape), np.dtype(self.data.dtype).kind
        if kind not in "uib":
            raise InputError(
                f"The labels hold numbers of type {np.dtype(self.data.dtype)}",
                rule="Label ids are integers",
                cure="Convert them first, for example `layer.data = layer.data.astype(int)`",
            )
        if "S" in normalize_axes(self.axes, len(shape)) or 0 in shape:
            raise InputError(
                f"The labels have shape {shape} along the axes {self.axes}",
                rule="Labels have at least one pixel along every axis, and no colours",
                cure="Save one channel of ids, without empty axes",
            )
        for name in ("scale", "translate", "units", "names"):
            values = getattr(self, name)
            if values is not None and len(values) != len(shape):
                raise InputError(
                    f"{len(values)} values of `{name}` were given for {len(shape)} axes",
                    rule="Each axis has one",
                    cure=f"Give {len(shape)} values, in the order {self.axes}",
                )

    @property
    def order(self) -> tuple[int, ...]:
        """The axes of `data` in the order in which they are stored."""
        return tuple(self.axes.upper().index(axis) for axis in canonical_order(self.axes.upper()))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as it is stored."""
        return tuple(int(self.data.shape[axis]) for axis in self.order)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Longest chunk along each stored axis; 1 where the data have none."""
        chunks = getattr(self.data, "chunks", None) or (1,) * len(self.order)
        return tuple(int(np.max(chunks[axis])) for axis in self.order)

    def read(self, block: Block) -> NDArray[Any]:
        """Read a block, given and returned with the axes in the order in which they are stored.

        Parameters
        ----------
        block : tuple of slice

        Returns
        -------
        ndarray

        Raises
        ------
        InputError
            When there are negative ids.
        """
        index: list[slice] = [slice(None)] * len(block)
        for axis, span in zip(self.order, block, strict=True):
            index[axis] = span
        values = np.asarray(self.data[tuple(index)]).transpose(self.order)
        if values.dtype.kind == "i" and values.size and int(values.min()) < 0:
            raise InputError(
                f"The labels hold the id {values.min()}",
                rule="Ids are 1 and up, and 0 is background",
                cure="Replace them first, for example `layer.data[layer.data < 0] = 0`",
            )
        return values

    def layout(self, ngff_version: NgffVersion, dtype: str) -> LabelLayout:
        """Describe the store that these labels go to.

        Parameters
        ----------
        ngff_version : str
        dtype : str

        Returns
        -------
        LabelLayout
        """
        n = len(self.order)

        def ordered(values: Sequence[Any] | None, default: Any) -> tuple[Any, ...]:
            return tuple((values or [default] * n)[axis] for axis in self.order)

        return LabelLayout(
            canonical_order(self.axes.upper()),
            self.shape,
            tuple(float(value) for value in ordered(self.scale, 1.0)),
            ordered(self.units, None),
            ngff_version=ngff_version,
            translate=tuple(float(value) for value in ordered(self.translate, 0.0)),
            names=None if self.names is None else ordered(self.names, ""),
            dtype=dtype,
        )
