"""Configurations as TOML files: every option is one of a dataclass, of the type it states."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from napari_sam.core.errors import ConfigError

__all__ = ["read_config", "refused", "require"]

Config = TypeVar("Config")


def read_config(
    path: Path, kind: type[Config], *, folders: Sequence[str], models: Sequence[str], example: str
) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path : Path
        A TOML file with the fields of `kind`.
    kind : type
        A dataclass that checks its own values.
    folders : sequence of str
        Options that are paths. A relative path starts at the configuration file.
    models : sequence of str
        Options that are names or, with a suffix, paths of files.
    example : str
        A file in ``configs/`` to start from.

    Raises
    ------
    ConfigError
        If the file is missing, not TOML, or names an option that does not exist or has a value
        of another type or out of range.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"The training configuration {path} cannot be read ({error})",
            rule="A configuration is a TOML file",
            cure=f"Start from configs/{example}",
        ) from error
    for name in (*folders, *models):
        value = values.get(name)
        if isinstance(value, str) and value and (name in folders or Path(value).suffix):
            values[name] = str(Path(path).parent / value)
    _check_options(values, kind)
    return kind(**values)


def _check_options(values: dict[str, Any], kind: type[Any]) -> None:
    """Check names and types of ``values``."""
    fields = {item.name: item for item in dataclasses.fields(kind)}
    unknown = sorted(set(values) - set(fields))
    missing = [
        name
        for name, item in fields.items()
        if name not in values
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    ]
    if unknown or missing:
        raise ConfigError(
            f"Unknown options: {unknown}; missing options: {missing}",
            rule=f"The configuration has the options {', '.join(fields)}",
            cure="Correct the spelling, or add what is missing",
        )
    for name, value in values.items():
        kinds = _accepted_types(str(fields[name].type))
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise refused(name, value, f"of type {fields[name].type}")


def _accepted_types(annotation: str) -> tuple[type, ...]:
    if annotation.startswith("dict"):
        return (dict,)
    return {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}[annotation]


def require(config: object, names: Iterable[str], rule: str, holds: Callable[[Any], bool]) -> None:
    """Refuse the first option whose value breaks a rule.

    Parameters
    ----------
    config : object
        The configuration.
    names : iterable of str
        Its options that the rule is for.
    rule : str
        The rule in words, as of :func:`refused`.
    holds : callable
        Tells whether it holds for a value.

    Raises
    ------
    ConfigError
    """
    for name in names:
        value = getattr(config, name)
        if not holds(value):
            raise refused(name, value, rule)


def refused(name: str, value: object, rule: str) -> ConfigError:
    """Return the error of an option whose value breaks a rule."""
    return ConfigError(
        f"{name} = {value!r} was given",
        rule=f"{name} must be {rule}",
        cure="Correct the value in the training configuration",
    )
