"""Where the labels of a run go: beside their image, or into its group of labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from napari_sam.core.errors import ConfigError, OutputError
from napari_sam.io import Volume
from napari_sam.io.image_labels import image_version, label_group_name, register_labels
from napari_sam.io.label_layout import LabelLayout, NgffVersion
from napari_sam.io.label_store import listed_labels
from napari_sam.io.label_tiff import check_tiff_path
from napari_sam.io.label_writer import LabelWriter
from napari_sam.io.output_files import (
    check_apart,
    forget_set_aside,
    remove_partial_files,
    remove_store,
    set_aside,
)
from napari_sam.io.table_file import check_table_path
from napari_sam.pipeline.config import SegmentConfig
from napari_sam.pipeline.journal import Journal
from napari_sam.pipeline.plan import is_on_disk, volume_files
from napari_sam.pipeline.source import SliceSource
from napari_sam.pipeline.tile_results import tile_folder

__all__ = ["SegmentTarget"]

APART_RULE = "Labels are written beside their image, or into the group `labels` of an OME-Zarr"
APART_CURE = "Choose another name in another folder, or IMAGE/labels/NAME for an OME-Zarr"
IMAGE_OF_LABELS = "../../"
"""Where the image lies, seen from labels in its group."""


@dataclass(frozen=True)
class SegmentTarget:
    """The output of a run. Use :meth:`choose`.

    Attributes
    ----------
    path : Path
        Directory of the label store.
    ngff_version : str
        ``"0.5"`` or ``"0.4"``.
    source_image : str or None
        Path of the OME-Zarr image from the labels, where it is one on disk.
    is_in_image : bool
        Whether the labels lie in the image's own group.
    """

    path: Path
    ngff_version: NgffVersion
    source_image: str | None
    is_in_image: bool

    @classmethod
    def choose(cls, path: Path, volume: Volume, config: SegmentConfig) -> SegmentTarget:
        """Check where labels are to go, before anything is computed.

        Parameters
        ----------
        path : Path
            Directory of the output; ``IMAGE/labels/NAME`` for the group of an OME-Zarr image.
        volume : Volume
            The image.
        config : SegmentConfig

        Returns
        -------
        SegmentTarget

        Raises
        ------
        OutputError
            When the output would overwrite or damage the image, or a name is taken.
        ConfigError
            When another NGFF version was asked for than the image has, or a file has an unknown
            ending.
        InputError
            When labels cannot be added to images of this NGFF version.
        """
        may_replace = config.overwrite or config.resume
        for table in config.tables:
            check_table_path(table, may_replace)
        if config.tiff is not None:
            check_tiff_path(config.tiff, may_replace)
        if not is_on_disk(volume):
            return cls(path, config.ngff_version or "0.5", None, False)
        image = Path(volume.path)
        if volume.is_ngff and _is_label_place(path, image):
            return cls._inside(path, image, config)
        for file in (image, *volume_files(volume)):
            check_apart(file, path, rule=APART_RULE, cure=APART_CURE)
        source_image = _relative(image, path) if volume.is_ngff else None
        return cls(path, config.ngff_version or "0.5", source_image, False)

    @classmethod
    def _inside(cls, path: Path, image: Path, config: SegmentConfig) -> SegmentTarget:
        version = image_version(image)
        if config.ngff_version not in (None, version):
            raise ConfigError(
                f"Labels of NGFF {config.ngff_version} were asked for in the image {image}, which "
                f"has NGFF {version}",
                rule="Labels inside an image are written as the image is",
                cure="Leave out `--ngff-version`, or write the labels beside the image",
            )
        if label_group_name(path.name) != path.name:
            raise OutputError(
                f"Labels inside the image {image} were to be named {path.name!r}",
                rule="The name of a group of labels has letters, digits, `_`, `-` and `.` inside",
                cure=f"Choose a name such as {label_group_name(path.name)}",
            )
        may_replace = config.overwrite or config.resume
        if path.name in listed_labels(path.parent) and not may_replace:
            raise OutputError(
                f"The image {image} has labels named {path.name} already",
                rule="Existing labels are never replaced unasked",
                cure="Choose another name, or use `--overwrite` to replace them",
            )
        return cls(path, version, IMAGE_OF_LABELS, True)

    def create(self, slices: SliceSource, volume: Volume, path: Path | None = None) -> LabelWriter:
        """Create the output, which is marked unfinished.

        Parameters
        ----------
        slices : SliceSource
        volume : Volume
            The image.
        path : Path, optional
            Where it lies until it takes its place.

        Returns
        -------
        LabelWriter

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        layout = LabelLayout(
            axes=slices.label_axes,
            shape=slices.label_shape,
            scale=slices.of_label_axes(volume.scale),
            units=slices.of_label_axes(volume.units),
            ngff_version=self.ngff_version,
        )
        name = self.path.name.split(".")[0] or None
        return LabelWriter.create(
            path or self.path, layout, source_image=self.source_image, name=name
        )

    @contextmanager
    def replacing(self, journal: Journal) -> Iterator[None]:
        """Put back an older store, its journal and its tiles when the block fails.

        Parameters
        ----------
        journal : Journal
            Of this output.

        Yields
        ------
        None
            Nothing.
        """
        before = journal.path.read_bytes() if journal.path.exists() else None
        with set_aside(self.path), set_aside(tile_folder(self.path)):
            try:
                yield
            except BaseException:
                journal.remove()
                if before is not None:
                    journal.path.write_bytes(before)
                raise

    @contextmanager
    def tidied(self) -> Iterator[None]:
        """Leave no group of labels in an image that got none.

        Yields
        ------
        None
            Nothing.
        """
        try:
            yield
        finally:
            if self.is_in_image:
                with suppress(OSError):  # only a folder that is empty is removed
                    self.path.parent.rmdir()

    @property
    def is_finished(self) -> bool:
        """Whether a run has marked the output finished, and was killed before it had tidied up.

        Raises
        ------
        OutputError
            When there is no output of ours, or a finished one without marks of work.
        """
        writer = LabelWriter.reopen(self.path, may_be_finished=Journal(self.path).path.exists())
        return writer.is_finished

    def mend(self, index: tuple[int, ...] | None) -> None:
        """Remove what is half written by a run that was killed.

        Parameters
        ----------
        index : tuple of int or None
            The slice that it was at, along the axes before YX; None when all were done.

        Raises
        ------
        OutputError
            When there is no output of ours.
        """
        LabelWriter.reopen(self.path).remove_partial_files(index)
        if self.is_in_image:
            remove_partial_files(self.path.parent)
            remove_partial_files(self.path.parent.parent)

    def remove_marks(self, journal: Journal) -> None:
        """Remove what only an unfinished output needs; the journal last, which tells that.

        Parameters
        ----------
        journal : Journal
            Of this output.
        """
        for path in (self.path, tile_folder(self.path)):
            forget_set_aside(path)
        remove_store(tile_folder(self.path))
        journal.remove()

    def finish(self) -> None:
        """Mark the output finished.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        LabelWriter.reopen(self.path).finish()

    def register(self) -> None:
        """List labels that lie in their image in its group of labels.

        This changes the image's metadata, by which a run that is resumed knows its image: so it is
        done when there is nothing left to resume.

        Raises
        ------
        OutputError
            When the group cannot be written.
        """
        if self.is_in_image:
            register_labels(self.path, self.ngff_version)


def _is_label_place(path: Path, image: Path) -> bool:
    """Whether a path is that of labels in the group of an image."""
    there = path.parent.resolve()
    return there.name == "labels" and there.parent == image.resolve()


def _relative(image: Path, target: Path) -> str | None:
    try:
        return Path(os.path.relpath(image.resolve(), target.resolve())).as_posix()
    except ValueError:  # another drive on Windows: no relative path leads there
        return None
