"""Ask where labels are saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

if TYPE_CHECKING:
    from napari.layers import Image, Labels

__all__ = ["ask_for_target", "suggested_target"]

FILTER = "OME-Zarr (*.ome.zarr *.zarr)"


def suggested_target(layer: Labels, image: Image | None) -> Path:
    """Suggest where labels are saved: in the image's own OME-Zarr, or beside the image.

    Parameters
    ----------
    layer : napari.layers.Labels
    image : napari.layers.Image or None
        What the labels belong to.

    Returns
    -------
    Path
    """
    from napari_sam._napari.writer import is_ome_zarr_image  # it loads zarr
    from napari_sam.io.image_labels import label_group_name

    name = label_group_name(layer.name)
    source = None if image is None else image.source.path
    if source is None:
        return Path.home() / f"{name}.ome.zarr"
    path = Path(source)
    if is_ome_zarr_image(path):
        return path / "labels" / name
    return path.with_name(f"{path.name.split('.')[0]}-{name}.ome.zarr")


def ask_for_target(parent: QWidget, layer: Labels, image: Image | None) -> tuple[Path, bool] | None:
    """Ask where labels are saved, and whether what is there may go.

    Parameters
    ----------
    parent : QWidget
    layer : napari.layers.Labels
    image : napari.layers.Image or None
        What the labels belong to.

    Returns
    -------
    tuple of (Path, bool) or None
        The place, and whether it may be replaced; None when the user changed their mind.
    """
    from napari_sam._napari.writer import is_ome_zarr_image

    options = QFileDialog.Option.DontConfirmOverwrite
    chosen, _ = QFileDialog.getSaveFileName(
        parent, "Save labels", str(suggested_target(layer, image)), FILTER, options=options
    )
    if not chosen:
        return None
    path = Path(chosen)
    if not path.exists() or is_ome_zarr_image(path):
        return path, False
    question = f"{path.name} is there already. Replace it?"
    answer = QMessageBox.question(parent, "Save labels", question)
    return (path, True) if answer == QMessageBox.StandardButton.Yes else None
