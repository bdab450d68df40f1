"""From what is chosen in the widget to what a run takes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sam._napari.coordinates import displayed_plane, shares_grid
from napari_sam._napari.data_tokens import data_token
from napari_sam._napari.everything_plane import PlaneRequest
from napari_sam._napari.everything_store import Placement
from napari_sam._napari.layer_volume import layer_axes, layer_volume, volume_channels
from napari_sam._napari.layers import ChannelChoice, LayerPlane
from napari_sam.core.errors import InputError, NapariSamError
from napari_sam.pipeline.config import SegmentConfig

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

    from napari_sam._napari.everything_form import EverythingForm
    from napari_sam._napari.everything_scope import ScopePanel
    from napari_sam._napari.image_panel import ImagePanel
    from napari_sam._napari.model_choice import ModelChoice
    from napari_sam.core.plane import Plane
    from napari_sam.io import Volume
    from napari_sam.pipeline.interactive import InteractivePredictor

__all__ = ["Choices", "VolumeRequest"]

STACK_AXES = "TZ"


@dataclass(frozen=True, eq=False)
class VolumeRequest:
    """A run over slices of an image.

    Attributes
    ----------
    volume : Volume
        The image; it stays usable when the layer goes.
    config : SegmentConfig
    placement : Placement
        Where the labels lie.
    """

    volume: Volume
    config: SegmentConfig
    placement: Placement


class Choices:
    """What the panels of the widget say, put together.

    Parameters
    ----------
    viewer : napari.Viewer
    image : ImagePanel
    model : ModelChoice
    scope : ScopePanel
    form : EverythingForm
    """

    def __init__(
        self,
        viewer: napari.Viewer,
        image: ImagePanel,
        model: ModelChoice,
        scope: ScopePanel,
        form: EverythingForm,
    ) -> None:
        self._viewer = viewer
        self._image, self._model, self._scope, self._form = image, model, scope, form

    @property
    def search_key(self) -> Hashable:
        """What decides which masks are found on a plane."""
        image = self._image
        chosen = image.layer, image.channel_choice, image.contrast_choice
        return chosen, self._model.model, self._form.search

    def require_image(self) -> Image:
        """Return the image.

        Raises
        ------
        InputError
            When there is none.
        """
        if self._image.layer is None:
            raise InputError(
                "There is no image",
                rule="Objects are segmented on an image layer",
                cure="Open an image, or choose one at the top of this panel",
            )
        return self._image.layer

    def plane(self) -> Plane:
        """Return the plane of the image in view; it counts for all channels.

        Raises
        ------
        InputError
            When there is no image, or no plane of it is in view.
        """
        plane = displayed_plane(self.require_image(), self._viewer.dims)
        axis = self._image.channel_choice.axis
        if axis is None or axis in plane.axes_yx:
            return plane
        return plane.with_position(axis, 0)

    def fits(self, layer: Layer) -> bool:
        """Tell whether objects of the image can go into a layer."""
        try:
            plane = self.plane()
        except NapariSamError:
            return False
        return shares_grid(layer, self.require_image(), plane, self._viewer.dims)

    def slice_axes(self) -> dict[str, int]:
        """Find the axes along which the image has slices.

        Returns
        -------
        dict of str to int
            Length along T and Z, as far as it has them.

        Raises
        ------
        InputError
            When there is no image, or its axes cannot be told.
        """
        image = self.require_image()
        letters = layer_axes(image, self._image.channel_choice)
        pairs = zip(letters, image.level_shapes[0], strict=True)
        return {letter: int(length) for letter, length in pairs if letter in STACK_AXES}

    def plane_request(self, predictors: tuple[InteractivePredictor, ...]) -> PlaneRequest:
        """Put together what a search on the plane in view takes; nothing is read.

        Parameters
        ----------
        predictors : tuple of InteractivePredictor
            Those that may have its embedding already.

        Returns
        -------
        PlaneRequest

        Raises
        ------
        NapariSamError
            When there is no plane, or options do not fit it.
        """
        image, channels = self.require_image(), self._image.channel_choice
        plane = self.plane()
        return PlaneRequest(
            layer=image,
            plane=plane,
            pixels=LayerPlane(image, plane, channels),
            volume_key=tuple(data_token(each) for each in (image, *channels.other_layers)),
            channels=channels,
            contrast=self._image.contrast_choice,
            model=self._model.model,
            device=self._model.device,
            options=self._form.automatic,
            predictors=predictors,
        )

    def volume_request(self) -> VolumeRequest:
        """Put together what a run over the chosen slices takes; nothing is read.

        Returns
        -------
        VolumeRequest

        Raises
        ------
        NapariSamError
            When there is no image, or options do not fit it.
        """
        image, channels = self.require_image(), self._image.channel_choice
        contrast, form = self._image.contrast_choice, self._form
        position = {}
        if self._scope.scope == "slice":
            position = _position_of(self.plane(), image, channels)
        slices, times = self._scope.ranges(position)
        from_layer = contrast.source == "layer limits"
        config = SegmentConfig(
            model=self._model.model,
            device=self._model.device,
            channels=volume_channels(channels),
            slices=slices,
            times=times,
            tile=form.tile,
            halo=form.halo,
            contrast_percentiles=None if from_layer else contrast.percentiles,
            contrast_limits=_limits(image, channels) if from_layer else None,
            min_size=form.min_size,
            ngff_version=form.ngff_version,
            automatic=form.automatic,
        )
        return VolumeRequest(layer_volume(image, channels), config, Placement.of(image, channels))


def _position_of(plane: Plane, layer: Image, channels: ChannelChoice) -> dict[str, int]:
    """Find the index along T and Z of a plane, which must be one of rows and columns."""
    letters = layer_axes(layer, channels)
    if set(plane.axes_yx) != {letters.index("Y"), letters.index("X")}:
        shown = ", ".join(letters[axis] for axis in plane.axes_yx)
        raise InputError(
            f"The viewer displays the axes {shown} of the layer '{layer.name}'",
            rule="Large planes and stacks are segmented along rows and columns",
            cure="Roll or transpose the axes back with the buttons below the layer list",
        )
    return {
        letter: plane.position_along(axis)
        for axis, letter in enumerate(letters)
        if letter in STACK_AXES
    }


def _limits(layer: Image, channels: ChannelChoice) -> tuple[tuple[float, float], ...]:
    pairs = []
    for each in (layer, *channels.other_layers):
        low, high = each.contrast_limits
        pairs.append((float(low), float(high)))
    return tuple(pairs)
