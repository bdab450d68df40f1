"""Where images lie: a path of this machine, or a URL, which a `Path` would spoil."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from napari_sam.core.errors import OutputError

__all__ = [
    "Location",
    "as_location",
    "is_url",
    "local_target",
    "location_name",
    "looks_like_url",
]

Location = Path | str
"""A path of this machine; or text, which is always a URL."""

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::[A-Za-z0-9+.:-]+)?://")
"""At least two letters before the colon: one alone is a drive of Windows."""
SPOILED_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]")
FILE_SCHEME = re.compile(r"file://", re.IGNORECASE)


def is_url(place: str | Path) -> bool:
    """Tell a URL from a path.

    Parameters
    ----------
    place : str or Path

    Returns
    -------
    bool
        True for ``https://...``, ``s3://...``, ``file://...`` and the like.
    """
    return isinstance(place, str) and URL.match(place) is not None


def as_location(place: str | Path) -> Location:
    """Make a path of what is one, and leave a URL as it is.

    Parameters
    ----------
    place : str or Path
        The path of a ``file://`` URL is taken out of it.

    Returns
    -------
    Path or str
        Text when it is a URL.
    """
    if isinstance(place, Path) or not is_url(place):
        return Path(place)
    if FILE_SCHEME.match(place):
        return Path(url2pathname(urlsplit(place).path))
    return place


def location_name(place: Location) -> str:
    """Name an image by the last part of its path or URL.

    Parameters
    ----------
    place : Path or str

    Returns
    -------
    str
        Without what a URL carries behind ``?``, which may be a secret.
    """
    if isinstance(place, Path):
        return place.name
    return place.split("?")[0].rstrip("/").rsplit("/", 1)[-1]


def looks_like_url(path: Path) -> bool:
    """Tell whether a path was made of a URL and lost one of its slashes.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return SPOILED_URL.match(str(path)) is not None


def local_target(target: str | Path) -> Path:
    """Make a path of the output's, which must be one of this machine.

    Parameters
    ----------
    target : str or Path

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        When it is a URL.
    """
    if is_url(target) or looks_like_url(Path(target)):
        raise OutputError(
            f"The output {target} is a URL",
            rule="Labels are written to a disk of this machine; nothing is ever written to a URL",
            cure="Give a path such as labels.ome.zarr, and upload the result when it is finished",
        )
    return Path(target)
