"""What the widgets remember from one day to the next, in a small JSON file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from napari_sam._napari.notices import show_warning
from napari_sam.pipeline.options import PRESETS

__all__ = ["Settings", "load_settings", "save_settings", "settings_path", "update_settings"]

# what a field may be, where not every text will do
_CHOICES = {
    "preference": ("best", "whole", "part", "sub-part"),
    "overwrite_rule": ("keep", "overwrite", "only_empty"),
    "everything_preset": tuple(PRESETS),
}


@dataclass(frozen=True)
class Settings:
    """What the user chose last.

    Attributes
    ----------
    model : str
        Name in the registry, or path of a weights file.
    device : str
        See `napari_sam.model.resolve_device`.
    preference : {"best", "whole", "part", "sub-part"}
        Which mask of an ambiguous prompt is taken.
    overwrite_rule : {"keep", "overwrite", "only_empty"}
        What happens where a new object meets an old one.
    everything_preset : str
        A key of `napari_sam.pipeline.options.PRESETS`.
    """

    model: str = "compact"
    device: str = "auto"
    preference: str = "best"
    overwrite_rule: str = "keep"
    everything_preset: str = "automatic"


def settings_path() -> Path:
    """Return where the settings are kept; the file need not exist.

    It is ``settings.json`` in the directory that the environment variable NAPARI_SAM_HOME names,
    or in the operating system's directory for settings.
    """
    home = os.environ.get("NAPARI_SAM_HOME")
    if home:
        return Path(home).expanduser() / "settings.json"
    import platformdirs

    return platformdirs.user_config_path("napari_sam", appauthor=False) / "settings.json"


def load_settings() -> Settings:
    """Read the settings.

    Returns
    -------
    Settings
        Defaults for all that is not in the file, or not valid there; a warning is shown when the
        file is damaged.
    """
    path = settings_path()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError) as error:
        return _warn_and_use_defaults(path, error)
    if not isinstance(content, dict):
        return _warn_and_use_defaults(path, ValueError("no JSON object"))
    known = {field.name for field in fields(Settings)}
    valid = {name: value for name, value in content.items() if _is_valid(name, value)}
    if wrong := (content.keys() & known) - valid.keys():
        _warn(path, f"{', '.join(sorted(wrong))} not valid")
    return Settings(**{name: valid[name] for name in valid.keys() & known})


def save_settings(settings: Settings) -> None:
    """Write the settings; where that is not possible, a warning is shown.

    Parameters
    ----------
    settings : Settings
        What to remember.
    """
    path = settings_path()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        show_warning(f"Settings are not remembered: {str(path)!r} cannot be written.\n{error}")


def update_settings(**changes: str) -> None:
    """Change some settings in the file; what others have changed there stays.

    Parameters
    ----------
    **changes : str
        New values by the names of the fields of `Settings`.
    """
    before = load_settings()
    after = replace(before, **changes)
    if after != before:
        save_settings(after)


def _is_valid(name: str, value: Any) -> bool:
    return isinstance(value, str) and value in _CHOICES.get(name, (value,))


def _warn_and_use_defaults(path: Path, error: Exception) -> Settings:
    _warn(path, str(error))
    return Settings()


def _warn(path: Path, reason: str) -> None:
    show_warning(f"Some settings start from their defaults.\n{str(path)!r}: {reason}.")
