"""Outputs of runs that were stopped: found, and described so that they can be completed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_sam.core.errors import InputError, NapariSamError, OutputError
from napari_sam.io.ome_zarr import read_multiscale
from napari_sam.pipeline.config import SegmentConfig, SliceRange
from napari_sam.pipeline.journal import Journal
from napari_sam.pipeline.link_config import LinkConfig
from napari_sam.pipeline.options import AutomaticOptions

__all__ = ["is_unfinished", "unfinished_config"]


def is_unfinished(path: str | Path) -> bool:
    """Tell whether a store is the output of a run that was stopped and can be completed.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    bool
    """
    path = Path(path)
    if not Journal(path).path.is_file():
        return False
    try:
        return read_multiscale(path).state == "unfinished"
    except InputError:
        return False


def unfinished_config(path: str | Path) -> SegmentConfig:
    """Read how a run was configured, from the journal beside its unfinished output.

    Parameters
    ----------
    path : str or Path
        Directory of the store.

    Returns
    -------
    SegmentConfig
        With `resume` set; the device is that of the machine.

    Raises
    ------
    OutputError
        When there is no unfinished output of napari_sam, or its journal cannot be read.
    """
    path = Path(path)
    if not is_unfinished(path):
        raise _cannot_resume(path, "it is not an unfinished result with its journal beside it")
    try:
        with Journal(path).path.open(encoding="utf-8") as file:
            options = json.loads(file.readline())["options"]
        return _config_of(options)
    except (AttributeError, KeyError, OSError, TypeError, ValueError, NapariSamError) as error:
        raise _cannot_resume(path, f"its journal cannot be read ({error})") from error


def _config_of(options: Mapping[str, Any]) -> SegmentConfig:
    """Undo what JSON did to the fingerprint of a configuration."""
    known = {field.name for field in fields(SegmentConfig)}
    if not known >= options.keys():
        raise ValueError(f"unknown options {', '.join(sorted(options.keys() - known))}")
    values = {name: _as_tuple(value) for name, value in options.items()}
    for name in ("slices", "times"):
        values[name] = SliceRange(**options[name])
    values["automatic"] = AutomaticOptions(**options["automatic"])
    values["link"] = None if options["link"] is None else LinkConfig(**options["link"])
    return SegmentConfig(**values, resume=True)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _cannot_resume(path: Path, reason: str) -> OutputError:
    return OutputError(
        f"{path} cannot be completed: {reason}",
        rule="A run is completed from its unfinished store and the journal beside it",
        cure="Choose the store of a run that was stopped, or start the run again",
    )
