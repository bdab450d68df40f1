"""Where the labels of a run go: asked of the user, and looked at before anything is computed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_sam.core.errors import OutputError
from napari_sam.io.output_files import check_target

if TYPE_CHECKING:
    from napari.layers import Image

__all__ = ["Output", "ask_for_output", "ask_for_unfinished", "suggested_path"]

SUFFIX = ".ome.zarr"
_FILTER = "OME-Zarr (*.zarr)"
_FORBIDDEN = '<>:"/\\|?*'


@dataclass(frozen=True)
class Output:
    """Where labels are written, and what happens to what is there.

    Attributes
    ----------
    path : Path
        Directory of the store.
    resume : bool
        Whether an unfinished store there is completed.
    overwrite : bool
        Whether a store there is replaced.
    """

    path: Path
    resume: bool = False
    overwrite: bool = False


def suggested_path(image: Image) -> Path:
    """Choose a name that is free.

    It lies beside the image's file, or in the user's data where one cannot write there.

    Parameters
    ----------
    image : napari.layers.Image

    Returns
    -------
    Path
    """
    stem = "".join(letter if letter not in _FORBIDDEN else "-" for letter in image.name).strip(". ")
    source = _outermost(Path(image.source.path)) if image.source.path else None
    if source is not None and source.exists() and os.access(source.absolute().parent, os.W_OK):
        directory, stem = source.absolute().parent, source.name.split(".")[0]
    else:
        import platformdirs

        directory = platformdirs.user_data_path("napari_sam", appauthor=False) / "labels"
    names = chain(["labels"], (f"labels-{number}" for number in count(2)))
    paths = (directory / f"{stem or 'image'}-{name}{SUFFIX}" for name in names)
    return next(path for path in paths if not path.exists())


def ask_for_output(parent: QWidget, suggestion: Path) -> Output | None:
    """Let the user choose where labels are written, and what happens to a store that is there.

    Parameters
    ----------
    parent : QWidget
        The widget that asks.
    suggestion : Path
        What stands there at first.

    Returns
    -------
    Output or None
        None when the user wants none of it.

    Raises
    ------
    OutputError
        When something else than a store is there.
    """
    suggestion.parent.mkdir(parents=True, exist_ok=True)
    name, _ = QFileDialog.getSaveFileName(
        parent,
        "Write the labels to",
        str(suggestion),
        _FILTER,
        options=QFileDialog.Option.DontConfirmOverwrite,
    )
    if not name:
        return None
    path = Path(name)
    if not path.name.endswith(".zarr"):
        path = path.with_name(path.name + SUFFIX)
    if not path.exists():
        return Output(path)
    check_target(path, overwrite=True)  # refuses what is no store
    return _ask_about(parent, path)


def ask_for_unfinished(parent: QWidget, directory: Path) -> Path | None:
    """Let the user choose a store that a run has left unfinished.

    Parameters
    ----------
    parent : QWidget
        The widget that asks.
    directory : Path
        Where to look first.

    Returns
    -------
    Path or None
        None when the user wants none.

    Raises
    ------
    OutputError
        When it is no such store.
    """
    name = QFileDialog.getExistingDirectory(parent, "Unfinished labels (.zarr)", str(directory))
    if not name:
        return None
    from napari_sam.pipeline.unfinished import is_unfinished  # it loads zarr

    if not is_unfinished(name):
        raise OutputError(
            f"{name} is no unfinished result",
            rule="A run is completed from its unfinished store and the journal beside it",
            cure="Choose the .zarr folder of a run that was stopped",
        )
    return Path(name)


def _outermost(path: Path) -> Path:
    """Leave the Zarr that an image lies in, where it lies in one."""
    stores = [each for each in (path, *path.parents) if each.suffix == ".zarr"]
    return stores[-1] if stores else path


def _ask_about(parent: QWidget, path: Path) -> Output | None:
    """Ask what happens to a store that is there."""
    from napari_sam.pipeline.unfinished import is_unfinished

    can_resume = is_unfinished(path)
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Labels exist")
    state = "unfinished labels" if can_resume else "finished labels or another image"
    box.setText(f"{path.name} holds {state}.")
    resume = None
    if can_resume:
        box.setInformativeText("Resume completes them with the options they were begun with.")
        resume = box.addButton("&Resume", QMessageBox.ButtonRole.AcceptRole)
    replace = box.addButton("Re&place", QMessageBox.ButtonRole.DestructiveRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(resume or cancel)
    box.exec()
    chosen = box.clickedButton()
    if resume is not None and chosen is resume:
        return Output(path, resume=True)
    return Output(path, overwrite=True) if chosen is replace else None
