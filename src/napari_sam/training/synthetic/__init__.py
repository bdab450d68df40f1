"""A generator of synthetic microscopy with known objects.

It widens what real images cover during training, and makes the sample data of the demo. Only
numpy and scipy are used.
"""

from __future__ import annotations

from napari_sam.training.synthetic.image import KINDS, synthetic_image
from napari_sam.training.synthetic.stack import synthetic_stack

__all__ = ["KINDS", "synthetic_image", "synthetic_stack"]
