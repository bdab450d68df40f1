"""Write whole slices into a label store, as a run writes them block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.core.region import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam.io.label_writer import LabelWriter

__all__ = ["write_slice"]


def write_slice(writer: LabelWriter, index: tuple[int, ...], labels: NDArray[Any]) -> None:
    """Write a slice into every level."""
    writer.write_block(index, Region.whole(labels.shape), labels)
    writer.write_pyramid(index)
