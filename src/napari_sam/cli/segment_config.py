"""The options of ``napari-sam segment`` to the configuration of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.pipeline import AutomaticOptions, LinkConfig, SegmentConfig

__all__ = ["read_slices", "segment_config"]


def segment_config(options: dict[str, Any]) -> SegmentConfig:
    """Make a configuration of the options of the command.

    Parameters
    ----------
    options : dict
        As click gives them; the dictionary is used up.

    Returns
    -------
    SegmentConfig

    Raises
    ------
    ConfigError
        When a value is out of range, or two options exclude each other.
    """
    from napari_sam.pipeline import SegmentConfig

    read_slices(options)
    options["automatic"] = _automatic_options(options)
    options["contrast_limits"] = options["contrast_limits"] or None
    options["link"] = _link_config(options)
    options["dask_resources"] = tuple(map(_resource, options["dask_resources"]))
    return SegmentConfig(**options)


def read_slices(options: dict[str, Any]) -> None:
    """Read the options that choose slices.

    Parameters
    ----------
    options : dict
        In which the texts of ``slices`` and ``times`` become ranges.

    Raises
    ------
    ConfigError
        When a text is no range.
    """
    from napari_sam.pipeline import SliceRange, parse_slices

    for name in ("slices", "times"):
        text = options[name]
        options[name] = SliceRange() if text is None else parse_slices(text)


def _automatic_options(options: dict[str, Any]) -> AutomaticOptions:
    """Take out the options of the mask generator: those of the preset, unless given."""
    from dataclasses import fields, replace

    from napari_sam.pipeline import AutomaticOptions, find_preset

    preset = options.pop("preset")
    given = {field.name: options.pop(field.name) for field in fields(AutomaticOptions)}
    base = AutomaticOptions() if preset is None else find_preset(preset).options
    return replace(base, **{name: value for name, value in given.items() if value is not None})


def _link_config(options: dict[str, Any]) -> LinkConfig | None:
    """Take out the options of linking."""
    from napari_sam.core.errors import ConfigError
    from napari_sam.pipeline import LinkConfig

    is_asked = options.pop("link")
    names = ("axis", "min_iou", "max_gap", "max_shift", "min_extent")
    given = {name: options.pop(f"link_{name}") for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not is_asked:
        name = next(iter(given)).replace("_", "-")
        raise ConfigError(
            f"`--link-{name}` was given without `--link`",
            rule="It says how slices are linked",
            cure=f"Add `--link`, or leave out `--link-{name}`",
        )
    return LinkConfig(**given) if is_asked else None


def _resource(text: str) -> tuple[str, float]:
    from napari_sam.core.errors import ConfigError

    name, _, amount = text.partition("=")
    try:
        value = float(amount)
    except ValueError:
        value = -1.0
    if not name or not value > 0:
        raise ConfigError(
            f"The resource {text!r} was given",
            rule="A resource has a name and how much of it a tile takes",
            cure="Use for example `--dask-resource GPU=1`",
        )
    return name, value
