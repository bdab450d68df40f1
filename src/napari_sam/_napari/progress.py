"""What is being computed, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress"]


@dataclass(frozen=True)
class Progress:
    """What the engine is doing.

    Attributes
    ----------
    text : str
        A few words for the user.
    done, total : int
        Steps; a total of 0 means that their number is not known.
    busy : bool
        Whether something is being computed that a click has to wait for.
    """

    text: str
    done: int = 0
    total: int = 0
    busy: bool = True
