"""Show a result in napari: the image, and its label image on top.

``python -m napari_sam._napari.viewer IMAGE LABELS`` does so for files. The command line starts the
viewer that way, as a process of its own, and so needs no window library itself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari

from napari_sam.core.errors import NapariSamError
from napari_sam.core.region import Region
from napari_sam.io import open_volume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["main", "show_result"]


def show_result(
    image: NDArray[Any],
    labels: NDArray[np.integer],
    *,
    scale: Sequence[float] | None = None,
    viewer: napari.Viewer | None = None,
) -> napari.Viewer:
    """Show an image with its label image on top.

    Parameters
    ----------
    image : ndarray
        Shape (..., H, W), one channel.
    labels : ndarray of int
        Label image of the same shape; 0 is background.
    scale : sequence of float, optional
        Size of a pixel along each axis; 1 when not given.
    viewer : napari.Viewer, optional
        Where to add the two layers; a new window when not given.

    Returns
    -------
    napari.Viewer
        The viewer that shows them.
    """
    if viewer is None:
        viewer = napari.Viewer(title="napari_sam")
    viewer.add_image(image, name="image", colormap="gray", scale=scale)
    viewer.add_labels(labels, name="labels", scale=scale)
    return viewer


def main(arguments: Sequence[str]) -> int:
    """Open a window with an image file and a label file, and wait until it is closed.

    Parameters
    ----------
    arguments : sequence of str
        Path of the image and path of the labels, in any format that napari_sam reads.

    Returns
    -------
    int
        Exit status: 0, or 2 when a file cannot be shown.
    """
    if len(arguments) != 2:
        print("usage: python -m napari_sam._napari.viewer IMAGE LABELS", file=sys.stderr)
        return 2
    try:
        (image, scale), (labels, _) = (_read(Path(path)) for path in arguments)
    except NapariSamError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    show_result(image, labels, scale=scale)
    napari.run()
    return 0


def _read(path: Path) -> tuple[NDArray[Any], tuple[float, ...]]:
    volume = open_volume(path)
    try:
        return volume.read(Region.whole(volume.shape)), volume.scale
    finally:
        volume.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
