"""The diameter of objects as an option, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from napari_sam.core.object_scale import Diameter

__all__ = ["DiameterType", "diameter_text"]


class DiameterType(click.ParamType):  # type: ignore[type-arg]  # only generic in newer click
    """A number of pixels, ``auto`` or ``native``."""

    name = "diameter"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Diameter:
        """Read it, and refuse what is neither.

        Raises
        ------
        ConfigError
            When it is no number above 0 and neither ``auto`` nor ``native``.
        """
        from napari_sam.core.object_scale import AUTO, NATIVE, check_diameter

        try:
            diameter = value if value in (AUTO, NATIVE) else float(value)
        except ValueError:
            diameter = value
        check_diameter(diameter)
        return diameter


def diameter_text(diameter: float | None, scale: float) -> str:
    """Say what was estimated, and what follows.

    Parameters
    ----------
    diameter : float or None
        In pixels; None where too few objects were seen.
    scale : float
        Pixels of the model's input along a pixel of the image.

    Returns
    -------
    str
    """
    if diameter is None:
        return "Diameter: fewer than three objects were seen; the image is left as it is"
    if scale == 1:
        return f"Diameter: about {diameter:.1f} pixels; the image is left as it is"
    verb = "magnified" if scale > 1 else "shrunk"
    return f"Diameter: about {diameter:.1f} pixels; the image is {verb} to {scale:.2f} times"
