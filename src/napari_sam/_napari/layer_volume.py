"""Image layers as whole volumes, for runs over all slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from napari.layers import Image

from napari_sam._napari.layer_arrays import ChannelStack, layer_levels
from napari_sam._napari.layer_axes import ngff_units
from napari_sam._napari.layers import ChannelChoice
from napari_sam._napari.world import data_to_world
from napari_sam.core.axes import normalize_axes
from napari_sam.core.errors import InputError
from napari_sam.io import ArrayVolume

__all__ = ["layer_axes", "layer_volume", "named_axis", "volume_channels"]

AXIS_WORDS = {
    "T": ("t", "time", "frame", "timepoint"),
    "C": ("c", "ch", "channel", "channels"),
    "Z": ("z", "depth", "slice"),
    "Y": ("y", "row"),
    "X": ("x", "col", "column"),
}


def layer_axes(
    layer: Image, channels: ChannelChoice | None = None, stack_axis: Literal["Z", "T"] = "Z"
) -> str:
    """Name the axes of a layer.

    Parameters
    ----------
    layer : napari.layers.Image
    channels : ChannelChoice, optional
        Its axis is the channels', whatever the layer calls it.
    stack_axis : {"Z", "T"}
        What the one axis before rows and columns is, where the layer's axis labels do not say.

    Returns
    -------
    str
        One letter of TCZYXS per axis of the array, in its order.

    Raises
    ------
    InputError
        When the axes cannot be told, or the layer has a channel axis and no channel is chosen.
    """
    axis = channels.axis if channels is not None else None
    letters = _letters_of_labels(layer, axis) or _letters_by_custom(layer, axis, stack_axis)
    if axis is None and "C" in letters and layer.level_shapes[0][letters.index("C")] > 1:
        raise InputError(
            f"The layer '{layer.name}' has {layer.level_shapes[0][letters.index('C')]} channels "
            f"along axis {letters.index('C')} and none was chosen",
            rule="The model must know which channel shows the objects",
            cure="Choose one to three of its channels",
        )
    return normalize_axes(letters + "S" * bool(layer.rgb), layer.ndim + bool(layer.rgb))


def layer_volume(
    layer: Image, channels: ChannelChoice | None = None, stack_axis: Literal["Z", "T"] = "Z"
) -> ArrayVolume:
    """Make a volume of a layer, to be segmented as a whole; nothing is read.

    Parameters
    ----------
    layer : napari.layers.Image
    channels : ChannelChoice, optional
        Layers as channels become an axis C. Give `volume_channels` to the run.
    stack_axis : {"Z", "T"}
        What the one axis before rows and columns is, where the layer's axis labels do not say.

    Returns
    -------
    ArrayVolume
        With all levels of the layer and its pixel sizes. Its path is the file that the layer was
        opened from, else the layer's name.

    Raises
    ------
    InputError
        When the channels do not fit the layer, or its axes cannot be told.
    """
    channels = channels or ChannelChoice()
    channels.check(layer)
    axes = layer_axes(layer, channels, stack_axis)
    sizes = np.linalg.norm(data_to_world(layer)[:-1, :-1], axis=0)
    units = ngff_units(layer.units) or []
    levels: list[Any] = list(layer_levels(layer))
    if channels.other_layers:
        if "C" in axes:
            raise InputError(
                f"Several layers were chosen as channels, and the layer '{layer.name}' has a "
                f"channel axis besides: {axes}",
                rule="Channels are counted once",
                cure="Choose one layer only, or take the axis of length one away",
            )
        others = [layer_levels(each) for each in channels.other_layers]
        levels = [ChannelStack(arrays) for arrays in zip(levels, *others, strict=True)]
    path = layer.source.path
    return ArrayVolume(
        Path(path) if path else Path(layer.name),
        levels,
        "C" + axes if channels.other_layers else axes,
        scale={axis: float(size) for axis, size in zip(axes, sizes, strict=False)},
        units={axis: unit for axis, unit in zip(axes, units, strict=False) if unit},
    )


def volume_channels(channels: ChannelChoice) -> tuple[int, ...]:
    """Tell which channels of `layer_volume` a run takes.

    Parameters
    ----------
    channels : ChannelChoice

    Returns
    -------
    tuple of int
        For ``SegmentConfig.channels``; empty for an image with a single channel.
    """
    return tuple(range(channels.count)) if channels.other_layers else channels.indices


def named_axis(layer: Image, letter: str) -> int | None:
    """Find the axis that a layer's own labels name.

    Parameters
    ----------
    layer : napari.layers.Image
    letter : str
        One of TCZYX.

    Returns
    -------
    int or None
    """
    words = [_letter(label) for label in layer.axis_labels]
    return words.index(letter) if words.count(letter) == 1 else None


def _letter(label: str) -> str:
    word = label.strip().lower()
    return next((letter for letter, words in AXIS_WORDS.items() if word in words), "?")


def _letters_of_labels(layer: Image, channel_axis: int | None) -> str:
    """Read the layer's axis labels; empty when they leave anything open."""
    letters = [_letter(label) for label in layer.axis_labels]
    if channel_axis is not None:
        letters[channel_axis] = "C"
    is_clear = "?" not in letters and len(set(letters)) == len(letters) and {"Y", "X"} <= {*letters}
    return "".join(letters) if is_clear else ""


def _letters_by_custom(layer: Image, channel_axis: int | None, stack_axis: str) -> str:
    """Name the axes by their order: time, depth, rows, columns."""
    lengths = layer.level_shapes[0]
    free = [axis for axis in range(layer.ndim) if axis != channel_axis]
    if len(free) == 5 and channel_axis is None:  # a channel axis of length one is no question
        single = [axis for axis in free[:3] if lengths[axis] == 1]
        free = [axis for axis in free if axis not in single[-1:]]
    if not 2 <= len(free) <= 4:
        raise InputError(
            f"The layer '{layer.name}' has {layer.ndim} axes that are named "
            f"{', '.join(layer.axis_labels)}",
            rule="Rows and columns may have depth, time and one axis of channels before them",
            cure="Choose which axis counts channels, or set the layer's axis_labels to letters of "
            "t, c, z, y, x",
        )
    names = {2: "YX", 3: f"{stack_axis}YX", 4: "TZYX"}[len(free)]
    letters = ["C"] * int(layer.ndim)
    for axis, letter in zip(free, names, strict=True):
        letters[axis] = letter
    return "".join(letters)
