"""How everything in an image is segmented, by the words that options take."""

from __future__ import annotations

from typing import Literal, TypeGuard, get_args

__all__ = ["MODES", "POINT_MODES", "Mode", "PointMode", "is_point_mode"]

PointMode = Literal["proposals", "grid"]
"""Masks decoded from points: those that the model proposes, or those of a grid."""

Mode = Literal["proposals", "watershed", "grid"]
"""Either of these, or label images from the model's own maps without a mask decoder."""

MODES: tuple[Mode, ...] = get_args(Mode)
POINT_MODES: tuple[PointMode, ...] = get_args(PointMode)


def is_point_mode(mode: str) -> TypeGuard[PointMode]:
    """Tell whether masks are decoded from points."""
    return mode in POINT_MODES
