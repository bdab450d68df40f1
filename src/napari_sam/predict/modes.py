"""Which mode segments everything, and which options it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from napari_sam.core.errors import ConfigError
from napari_sam.core.modes import MODES, Mode
from napari_sam.model.instance_head import InstanceHead
from napari_sam.model.sam import Sam

__all__ = ["choose_mode", "options_given", "require_instance_head"]

_GRID_OPTIONS = frozenset(
    {"points_per_side", "point_grids", "crop_n_layers", "skip_covered", "foreground_only"}
)
"""Options that describe a grid of points, and so ask for one."""

_WATERSHED_OPTIONS = frozenset(
    {
        "foreground_thresh",
        "pred_iou_thresh",
        "stability_score_thresh",
        "stability_score_offset",
        "diameter",
    }
)
"""All that the watershed takes; the first is its own."""

_NEEDS_HEAD = {
    "mode='proposals'": (
        "Only models with an instance head propose points",
        "Use mode='grid' (`--mode grid`), or the compact model",
    ),
    "mode='watershed'": (
        "Only models with an instance head have maps that a watershed can flood",
        "Use mode='grid' (`--mode grid`), or the compact model",
    ),
    "foreground_only": (
        "Only models with an instance head tell foreground from background",
        "Leave out foreground_only (`--foreground-only`), or use the compact model",
    ),
    "diameter='auto'": (
        "Only models with an instance head see objects before they are prompted for",
        "Give the diameter as a number of pixels (`--diameter 30`), or use the compact model",
    ),
}


def require_instance_head(
    sam: Sam,
    what: Literal["mode='proposals'", "mode='watershed'", "foreground_only", "diameter='auto'"],
) -> InstanceHead:
    """Return the model's instance head.

    Parameters
    ----------
    sam : Sam
        The model.
    what : str
        The option that asks for it, as it was given.

    Raises
    ------
    ConfigError
        When the model has none.
    """
    if sam.instance_head is None:
        rule, cure = _NEEDS_HEAD[what]
        raise ConfigError(
            f"{what} was given for the model {sam.name or 'in use'}", rule=rule, cure=cure
        )
    return sam.instance_head


def choose_mode(sam: Sam, mode: Mode | None, options: Mapping[str, Any]) -> Mode:
    """Choose how everything is segmented, where it was not said.

    Parameters
    ----------
    sam : Sam
        The model.
    mode : {"proposals", "watershed", "grid"}, optional
        As it was given.
    options : mapping
        The other options; those that are None or False count as left out.

    Returns
    -------
    {"proposals", "watershed", "grid"}
        `mode` where it was given; else proposals where the model has an instance head and no
        option describes a grid of points; else the grid.

    Raises
    ------
    ConfigError
        When there is no such mode, the model has no instance head for it, or an option has no
        meaning in it.
    """
    if mode not in (None, *MODES):
        raise ConfigError(
            f"mode={mode!r} was given",
            rule=f"mode is one of {', '.join(MODES)}",
            cure="Choose one of these, or leave it out for what suits the model",
        )
    given = options_given(options)
    if mode == "watershed":
        require_instance_head(sam, "mode='watershed'")
        _refuse(given - _WATERSHED_OPTIONS, "The watershed prompts with no points", "grid")
        return mode
    _refuse(given & {"foreground_thresh"}, "Only the watershed cuts the foreground", "watershed")
    if mode is not None:
        return mode
    return "grid" if sam.instance_head is None or _GRID_OPTIONS & given else "proposals"


def options_given(options: Mapping[str, Any]) -> set[str]:
    """Name the options that say something: those that are neither None nor False."""
    return {name for name, value in options.items() if value is not None and value is not False}


def _refuse(names: set[str], rule: str, fitting: Mode) -> None:
    for name in sorted(names):
        raise ConfigError(
            f"{name} was given, which has no meaning in this mode",
            rule=rule,
            cure=f"Leave it out, or use mode='{fitting}' (`--mode {fitting}`)",
        )
