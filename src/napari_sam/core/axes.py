"""Axis names of images and volumes, and the only place that guesses them.

Axes are a string with one letter per array axis: ``T`` time, ``C`` channel, ``Z`` depth, ``Y``
rows, ``X`` columns and ``S`` the samples of a colour pixel (RGB or RGBA). The canonical order is
``TCZYXS``; every volume is presented in that order, whatever the order in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.errors import InputError

__all__ = [
    "CANONICAL_AXES",
    "canonical_order",
    "guess_axes",
    "normalize_axes",
    "transpose_to",
]

CANONICAL_AXES = "TCZYXS"
UNKNOWN_AXES = "QI?"
"""Letters with which file formats admit that they do not know what an axis is."""


def normalize_axes(axes: str, n_dimensions: int) -> str:
    """Check the axes that a user or a file states.

    Parameters
    ----------
    axes : str
        One letter per axis in any case, with or without separators: ``"zyx"``, ``"Z,Y,X"``.
    n_dimensions : int
        Number of axes of the array.

    Returns
    -------
    str
        The same axes in upper case, in the order given.

    Raises
    ------
    InputError
        When a letter is unknown or repeated, Y or X is missing, or the number does not fit.
    """
    letters = "".join(letter for letter in axes.upper() if letter not in ", -")
    valid = set(letters) <= set(CANONICAL_AXES) and len(set(letters)) == len(letters)
    if not valid or not {"Y", "X"} <= set(letters):
        raise InputError(
            f"The axes {axes!r} were given",
            rule=f"Axes are letters of {CANONICAL_AXES}, each at most once, Y and X always",
            cure="Use for example `--axes ZYX`, `--axes TCZYX`, or `--axes YXS` for RGB",
        )
    if len(letters) != n_dimensions:
        raise InputError(
            f"The axes {axes!r} name {len(letters)} axes, but the array has {n_dimensions}",
            rule="Each axis of the array needs one letter",
            cure="Give one letter per axis with `--axes`, in the order of the array",
        )
    return letters


def guess_axes(shape: Sequence[int], hint: str = "", *, is_color: bool = False) -> str:
    """Name the axes of an array whose file does not name them all.

    Only what cannot be wrong is guessed: the last two axes of a gray image are Y and X, and the
    samples of a colour format come last. Axes of length one that nobody named take a free letter,
    because every reading of them is the same. Anything else is asked for.

    Parameters
    ----------
    shape : sequence of int
        Shape of the array.
    hint : str
        Axes as the file states them, in which ``Q``, ``I`` and ``?`` stand for unknown. Empty when
        the file says nothing.
    is_color : bool
        Whether the format says that the last axis holds RGB or RGBA samples.

    Returns
    -------
    str
        One letter per axis.

    Raises
    ------
    InputError
        When an axis could be depth, time or channel; the cure names ``--axes``.
    """
    letters = list(hint.upper()) if len(hint) == len(shape) else ["?"] * len(shape)
    letters = [letter if letter in CANONICAL_AXES else "?" for letter in letters]
    if is_color and letters and "S" not in letters:
        letters[-1] = "S"
    for axis in ("X", "Y"):
        unknown = [i for i, letter in enumerate(letters) if letter == "?"]
        if axis not in letters and unknown:
            letters[unknown[-1]] = axis
    free = [axis for axis in "ZTC" if axis not in letters]
    for i, letter in enumerate(letters):
        if letter == "?" and shape[i] == 1 and free:
            letters[i] = free.pop(0)
    if "?" in letters or not {"Y", "X"} <= set(letters):
        raise _ambiguous(shape, letters)
    return normalize_axes("".join(letters), len(shape))


def canonical_order(axes: str) -> str:
    """Sort axes into the canonical order TCZYXS.

    Parameters
    ----------
    axes : str
        Normalised axes in any order.

    Returns
    -------
    str
    """
    return "".join(axis for axis in CANONICAL_AXES if axis in axes)


def transpose_to(array: NDArray[Any], axes: str, target: str) -> NDArray[Any]:
    """Reorder the axes of an array; a view, not a copy.

    Parameters
    ----------
    array : ndarray
        Its axes are named by `axes`.
    axes, target : str
        The same letters in two orders.

    Returns
    -------
    ndarray
    """
    return np.transpose(array, [axes.index(axis) for axis in target])


def _ambiguous(shape: Sequence[int], letters: Sequence[str]) -> InputError:
    named = "".join(letters)
    example = "".join(dict.fromkeys(named.replace("?", ""))) or "YX"
    missing = [axis for axis in "ZTC" if axis not in example]
    examples = [f"`--axes {named.replace('?', axis, 1)}`" for axis in missing]
    usable = [text for text in examples if "?" not in text] or ["`--axes TZYX`"]
    return InputError(
        f"The array has shape {tuple(shape)} and its file does not say what each axis is ({named})",
        rule="An axis could be depth (Z), time (T) or channel (C), and the result depends on it",
        cure=f"Say it with `--axes`, one letter per axis: {' or '.join(usable)}",
    )
