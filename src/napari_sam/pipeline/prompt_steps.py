"""The order in which the prompts of one object are decoded, each step on the mask before it."""

from __future__ import annotations

from dataclasses import replace

from napari_sam.core.errors import InputError
from napari_sam.core.prompts import PromptSet

__all__ = ["check_inside", "prompt_steps"]


def prompt_steps(prompts: PromptSet) -> tuple[PromptSet, ...]:
    """Split the prompts of an object into steps, each with all prompts up to it.

    The first step is the box and the mask, if there are any, or else the points up to the first
    positive one: what is not the object alone says little. Each further point is a step.

    Parameters
    ----------
    prompts : PromptSet
        At least one prompt.

    Returns
    -------
    tuple of PromptSet
        Without a choice; the last one holds all prompts.
    """
    points = prompts.points
    first = 0
    if not prompts.has_region:
        positive = (i for i, point in enumerate(points) if point.is_positive)
        first = next(positive, len(points) - 1) + 1
    return tuple(
        replace(prompts, points=points[:count], choice=None)
        for count in range(first, len(points) + 1)
    )


def check_inside(prompts: PromptSet, shape_yx: tuple[int, int]) -> None:
    """Refuse an object without prompts, or with prompts that miss the plane.

    Parameters
    ----------
    prompts : PromptSet
    shape_yx : tuple of int
        Rows and columns of the plane.

    Raises
    ------
    InputError
    """
    if prompts.is_empty:
        raise InputError(
            "An object without prompts was given",
            rule="At least one point, box or mask tells which object is meant",
            cure="Click on the object, or draw a box around it",
        )
    rows, cols = shape_yx
    for point in prompts.points:
        if not (-0.5 <= point.x <= cols and -0.5 <= point.y <= rows):
            raise InputError(
                f"The point (x, y) = ({point.x:g}, {point.y:g}) was given",
                rule=f"Points lie inside the image, x from 0 to {cols} and y from 0 to {rows}",
                cure="Click on the image",
            )
    for region in (prompts.box, prompts.mask.box if prompts.mask else None):
        if region and not (
            region.x0 < cols and region.y0 < rows and region.x1 > 0 and region.y1 > 0
        ):
            raise InputError(
                f"A box or mask within (x0, y0, x1, y1) = {region.xyxy} was given",
                rule=f"It overlaps the image of {cols} columns and {rows} rows",
                cure="Draw it on the image",
            )
