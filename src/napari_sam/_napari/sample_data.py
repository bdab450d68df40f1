"""Sample images for napari's menu File > Open Sample."""

from __future__ import annotations

from typing import Any

__all__ = ["synthetic_nuclei", "synthetic_nuclei_stack"]

LayerData = tuple[Any, dict[str, Any], str]

_SHAPE_2D_YX = (512, 512)
_SHAPE_STACK_ZYX = (5, 256, 256)


def synthetic_nuclei() -> list[LayerData]:
    """Make an image of synthetic fluorescent nuclei.

    Returns
    -------
    list of LayerData
        One image layer of shape (512, 512), uint16.
    """
    from napari_sam.training.synthetic import synthetic_stack

    image, _labels = synthetic_stack(shape_zyx=(1, *_SHAPE_2D_YX), seed=0)
    return [(image[0], {"name": "synthetic nuclei", "colormap": "gray"}, "image")]


def synthetic_nuclei_stack() -> list[LayerData]:
    """Make a stack of synthetic fluorescent nuclei.

    Returns
    -------
    list of LayerData
        One image layer of shape (5, 256, 256), uint16.
    """
    from napari_sam.training.synthetic import synthetic_stack

    image, _labels = synthetic_stack(shape_zyx=_SHAPE_STACK_ZYX, seed=0)
    return [(image, {"name": "synthetic nuclei stack", "colormap": "gray"}, "image")]
