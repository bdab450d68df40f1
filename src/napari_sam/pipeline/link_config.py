"""How the labels of slices are linked: one frozen, validated value."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam.core.errors import ConfigError
from napari_sam.io.label_layout import NgffVersion
from napari_sam.labels.link import LinkRule

__all__ = ["LinkConfig"]


@dataclass(frozen=True)
class LinkConfig:
    """Everything that decides what a run of `link_volume` does.

    Parameters
    ----------
    axis : str, optional
        ``"Z"`` or ``"T"``: along which slices are linked. By default Z where there is a Z, each
        time by itself, and else T.
    min_iou : float
        Objects of two slices are linked when their IoU is higher.
    max_gap : int
        Slices in which an object may be missing between two in which it is seen. None by default:
        an object in two parts is harder to notice than two objects.
    max_shift : float, optional
        How far the centre of an object may move from slice to slice, in the unit of the pixel size.
    min_extent : int
        Objects seen in fewer slices are dropped.
    axes : str, optional
        Axes of the input in the order of the file, when the file does not say.
    ngff_version : str
        ``0.5`` or ``0.4``.
    overwrite : bool
        Replace an existing store.

    Raises
    ------
    ConfigError
        When a value is out of range.
    """

    axis: str | None = None
    min_iou: float = 0.5
    max_gap: int = 0
    max_shift: float | None = None
    min_extent: int = 1
    axes: str | None = None
    ngff_version: NgffVersion = "0.5"
    overwrite: bool = False

    def __post_init__(self) -> None:
        LinkRule(self.min_iou, self.max_gap, self.max_shift)  # says what is wrong
        if self.axis not in (None, "Z", "T"):
            raise ConfigError(
                f"The axis {self.axis!r} was given",
                rule="Slices are linked along Z or along T",
                cure="Use `--axis Z` or `--axis T`",
            )
        if self.min_extent < 1:
            raise ConfigError(
                f"A smallest extent of {self.min_extent} slices was given",
                rule="An object is seen in one slice at least",
                cure="Use for example `--min-extent 2`",
            )
