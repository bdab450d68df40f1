"""The labels layer of a run: it shows the Zarr on disk from the first slice on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam._napari.coordinates import displayed_plane
from napari_sam._napari.label_layers import (
    METADATA_KEY,
    layer_data_of,
    refresh_after_write,
)
from napari_sam._napari.layer_volume import layer_axes
from napari_sam._napari.viewer_layers import remove_layer
from napari_sam.core.errors import InputError
from napari_sam.io.label_pyramid import RepeatedView

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Labels

    from napari_sam._napari.layers import ChannelChoice
    from napari_sam.io.label_store import LabelStore

__all__ = ["Placement", "StoreLayer"]

_TRANSFORMS = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


@dataclass(frozen=True, eq=False)
class Placement:
    """Where labels of an image lie; taken when a run begins, as the image may go meanwhile.

    Attributes
    ----------
    transforms : dict
        Arguments of a labels layer.
    channel_axis : int or None
        Axis of the image that counts channels, which the labels lack.
    n_channels : int
        Its length.
    """

    transforms: dict[str, Any]
    channel_axis: int | None
    n_channels: int

    @classmethod
    def of(cls, image: Image, channels: ChannelChoice) -> Placement:
        """Take the placement of an image.

        Parameters
        ----------
        image : napari.layers.Image
        channels : ChannelChoice

        Returns
        -------
        Placement

        Raises
        ------
        InputError
            When the axes of the image cannot be told, or are in another order than labels have.
        """
        letters = layer_axes(image, channels).replace("S", "")
        rest = letters.replace("C", "")
        if rest != "".join(axis for axis in "TZYX" if axis in rest):
            raise InputError(
                f"The axes of the layer '{image.name}' are {letters}",
                rule="Stacks are segmented with their axes in the order time, z, rows, columns",
                cure="Transpose the image, or segment it slice by slice",
            )
        channel_axis = letters.index("C") if "C" in letters else None
        n_channels = 1 if channel_axis is None else int(image.level_shapes[0][channel_axis])
        transforms = {name: getattr(image, name) for name in _TRANSFORMS}
        return cls(transforms, channel_axis, n_channels)


class StoreLayer:
    """Show a store that is being written, and later what it has become.

    Parameters
    ----------
    viewer : napari.Viewer
    path : Path
        Directory of the store.
    placement : Placement
    """

    def __init__(self, viewer: napari.Viewer, path: Path, placement: Placement) -> None:
        self._viewer = viewer
        self._placement = placement
        self.path = path
        self.layer: Labels | None = None
        """The layer, once there is something to show; the user may have removed it."""

    def open(self) -> None:
        """Add the layer, which cannot be edited while the run goes on.

        Raises
        ------
        InputError
            When the store cannot be read.
        """
        from napari_sam.io.label_store import LabelStore  # it loads zarr
        from napari_sam.io.ome_zarr import read_multiscale

        data = self._data_of(LabelStore(read_multiscale(self.path)))
        earlier = self._others()
        if earlier:
            self.layer = earlier[0]
            self.layer.data = data
        else:
            self.layer = self._add(data)
        self.layer.editable = False

    def show_written(self, positions: Sequence[tuple[int, ...]]) -> None:
        """Draw again if one of these slices is in view.

        Parameters
        ----------
        positions : sequence of tuple of int
            Index along the axes before rows and columns.
        """
        layer = self.layer
        if layer is None or layer not in self._viewer.layers:
            return
        try:
            plane = displayed_plane(layer, self._viewer.dims)
        except InputError:  # three dimensions, or a slice beyond the labels
            refresh_after_write(layer)
            return
        in_view = tuple(
            index
            for axis, index in zip(plane.other_axes, plane.position, strict=True)
            if axis != self._placement.channel_axis
        )
        is_usual = set(plane.axes_yx) == {layer.ndim - 2, layer.ndim - 1}
        if not is_usual or in_view in positions:
            refresh_after_write(layer)

    def finish(self) -> None:
        """Open the complete labels for editing.

        Raises
        ------
        InputError
            When the store cannot be read.
        """
        layer = self.layer
        if layer is None or layer not in self._viewer.layers:
            return
        from napari_sam.io.label_store import LabelStore

        layer.data = self._data_of(LabelStore.open(self.path))
        layer.editable = True

    def show_all(self) -> None:
        """Draw everything again, as the run has ended."""
        if self.layer is not None and self.layer in self._viewer.layers:
            refresh_after_write(self.layer)

    def remove_others(self) -> None:
        """Take layers out that show what will be replaced."""
        for layer in self._others():
            remove_layer(self._viewer, layer)

    def remove(self) -> None:
        """Take the layer out of the viewer, because there is nothing on disk."""
        layer, self.layer = self.layer, None
        if layer is not None:
            remove_layer(self._viewer, layer)

    def _others(self) -> list[Labels]:
        """List the layers that show this store already."""
        path = str(self.path)
        layers = self._viewer.layers
        return [
            layer for layer in layers if layer.metadata.get(METADATA_KEY, {}).get("store") == path
        ]

    def _add(self, data: Any) -> Labels:
        notes: dict[str, Any] = {"store": str(self.path)}
        if self._placement.channel_axis is not None:
            notes["channel_axis"] = self._placement.channel_axis
        selection = set(self._viewer.layers.selection)
        layer = self._viewer.add_labels(
            data,
            name=self.path.name.split(".")[0],
            multiscale=isinstance(data, list),
            metadata={METADATA_KEY: notes},
            **self._placement.transforms,
        )
        self._viewer.layers.selection = selection
        return layer

    def _data_of(self, store: LabelStore) -> Any:
        axis, length = self._placement.channel_axis, self._placement.n_channels
        if axis is None:
            return layer_data_of(store.levels)
        return layer_data_of([RepeatedView(level, axis, length) for level in store.levels])
