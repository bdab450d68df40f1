"""Numbers in the words that people use for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.core.object_scale import scale_for

if TYPE_CHECKING:
    from napari_sam.pipeline.estimate import CostEstimate

__all__ = ["cost_text", "counted", "diameter_text", "duration_text", "found_scale_text"]

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def cost_text(estimate: CostEstimate) -> str:
    """Say what a run will cost.

    Parameters
    ----------
    estimate : CostEstimate

    Returns
    -------
    str
        One line each for the work, the time, and memory and disk.
    """
    tiles, slices = counted(estimate.n_tiles, "tile"), counted(estimate.n_slices, "slice")
    return (
        f"{tiles} in {slices}: about {duration_text(estimate.seconds)}.\n"
        f"Memory {_size_text(estimate.memory_bytes)} besides the model.\n"
        f"Disk up to {_size_text(estimate.disk_bytes)}."
    )


def duration_text(seconds: float) -> str:
    """Round a duration to what people say.

    Parameters
    ----------
    seconds : float

    Returns
    -------
    str
        As ``40 s``, ``12 min``, ``3 h 20 min`` or ``2 days``.
    """
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{round(minutes / (24 * 60))} days"


def diameter_text(diameter: float | None) -> str:
    """Say what was estimated of the size of objects.

    Parameters
    ----------
    diameter : float or None
        In pixels; None where too few objects were seen.

    Returns
    -------
    str
    """
    if diameter is None:
        return (
            "Fewer than three objects were seen on this slice, so their diameter stays as it is. "
            "Measure one, or go to a slice with more of them."
        )
    words = f"Objects are about {diameter:.0f} pixels across"
    scale = scale_for(diameter)
    if scale == 1:
        return f"{words}, which the model sees well as they are."
    return f"{words}; the image is {'magnified' if scale > 1 else 'shrunk'} for the model."


def found_scale_text(diameter: float | None, scale: float) -> str:
    """Say whether objects were looked for in a resized image, after how many were found.

    Parameters
    ----------
    diameter : float or None
        In pixels, where it was estimated; None where the user said it.
    scale : float
        Pixels of the model's input along a pixel of the image.

    Returns
    -------
    str
        Empty where nothing is to be said.
    """
    about = "" if diameter is None else f" They are about {diameter:.0f} pixels across"
    if scale == 1:
        if scale_for(diameter) == 1:
            return ""
        return (
            f".{about}, and the slice is too large to be magnified whole; to have that done in "
            "tiles, set it as object diameter."
        )
    verb, factor = ("magnified", scale) if scale > 1 else ("shrunk", 1 / scale)
    done = f"image was {verb} {factor:.1f} times for the model."
    return f". The {done}" if diameter is None else f".{about}: the {done}"


def counted(count: int, thing: str) -> str:
    """Put a number before a thing.

    Parameters
    ----------
    count : int
    thing : str
        In the singular.

    Returns
    -------
    str
        As ``1 slice`` or ``3 slices``.
    """
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _size_text(n_bytes: float) -> str:
    """Round a size to two digits, at least 0.1 MB."""
    size, unit = max(n_bytes, 1e5) / 1e6, 2
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if size < 10 else f"{size:.0f} {_UNITS[unit]}"
