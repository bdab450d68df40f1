"""The two layers that prompts are given in: points, and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam._napari.coordinates import from_plane_xy, to_plane_xy
from napari_sam._napari.prompt_shapes import SCRIBBLES, points_along, shape_prompt
from napari_sam._napari.viewer_layers import remove_layer
from napari_sam.core.plane import Plane
from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PlacedPrompts, PointPrompt

if TYPE_CHECKING:
    import napari
    import pandas as pd
    from napari.layers import Image, Layer

__all__ = ["POINTS_NAME", "SHAPES_NAME", "TOOLS", "PromptLayers"]

POINTS_NAME = "SAM points"
SHAPES_NAME = "SAM shapes"
TOOLS = {
    "point": "add",
    "box": "add_rectangle",
    "ellipse": "add_ellipse",
    "polygon": "add_polygon",
    "scribble": "add_path",
}
"""The tools by the mode that they put their layer into."""

SIGNS = ("negative", "positive")
COLORS = {"negative": "#d62728", "positive": "#2ca02c"}
SYMBOLS = {"negative": "x", "positive": "disc"}
DIGITS = 6
"""Plane pixels are rounded to this many digits, so that they survive the way there and back."""
_USER_ACTIONS = ("added", "removed", "changed")


class PromptLayers(QObject):  # type: ignore[misc]  # qtpy has no types
    """Keep a points and a shapes layer over an image, and read prompts from them.

    Parameters
    ----------
    viewer : napari.Viewer
    parent : QObject
        The owner.
    """

    changed = Signal()
    """The user added, moved or removed a prompt."""
    opened = Signal()
    """A layer was added."""

    def __init__(self, viewer: napari.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._image: Image | None = None
        self.points: Points | None = None
        self.shapes: Shapes | None = None
        self._ignored_axes: tuple[int, ...] = ()
        self._is_positive = True
        self._is_writing = False
        # what was drawn for a prompt, to be drawn again when the prompt comes back
        self._drawings: dict[BoxPrompt | MaskPrompt, tuple[str, NDArray[np.float64]]] = {}

    @property
    def layers(self) -> list[Layer]:
        """The layers that are there."""
        return [layer for layer in (self.points, self.shapes) if layer is not None]

    def open(self, image: Image, channel_axis: int | None, *, is_new: bool = False) -> None:
        """Lay a layer for points over an image; prompts of an image before go.

        Parameters
        ----------
        image : napari.layers.Image
        channel_axis : int or None
            The axis of the image that counts channels: prompts stand on all of them.
        is_new : bool
            Whether the image is another one, or has another shape.
        """
        self._ignored_axes = () if channel_axis is None else (channel_axis,)
        is_new = is_new or image is not self._image
        self._image = image
        if is_new:
            self._empty()
        for layer in self.layers:
            if layer.ndim != image.ndim:
                self._take_away(layer)
            elif is_new:
                for name, value in _place(image).items():
                    setattr(layer, name, value)
        if self.points is None:
            self.points = self._new_points(image)
            self._viewer.add_layer(self.points)
            self.points.events.data.connect(self._on_data)
            self.opened.emit()
            is_new = True
        if is_new:
            self.use("point")

    def close(self) -> None:
        """Take the layers out of the viewer."""
        for layer in self.layers:
            self._take_away(layer)
        self._image = None
        self._drawings.clear()

    def forget(self, layer: Layer) -> None:
        """Do without a layer that was removed, until it is needed again."""
        layer.events.data.disconnect(self._on_data)
        if layer is self.points:
            self.points = None
        else:
            self.shapes = None

    def _take_away(self, layer: Layer) -> None:
        self.forget(layer)
        remove_layer(self._viewer, layer)

    def _empty(self) -> None:
        """Remove all prompts, on all planes."""
        self._drawings.clear()
        with self._writing():
            if self.points is not None and len(self.points.data):
                self.points.selected_data = set()
                self.points.data = np.zeros((0, self.points.ndim))
                self.points.features = _features([])
            if self.shapes is not None and len(self.shapes.data):
                self.shapes.data = []

    def _new_points(self, image: Image) -> Points:
        return Points(
            name=POINTS_NAME,
            features=_features([]),
            feature_defaults={"sign": SIGNS[self._is_positive]},
            face_color="sign",
            face_color_cycle=COLORS,
            border_color="white",
            size=10,
            canvas_size_limits=(9, 18),
            ndim=image.ndim,
            **_place(image),
        )

    def _open_shapes(self, image: Image) -> Shapes:
        """Lay a layer for shapes over the image, when it is first needed."""
        if self.shapes is None:
            active = self._viewer.layers.selection.active
            self.shapes = Shapes(
                name=SHAPES_NAME,
                edge_color="#f0e442",
                face_color="transparent",
                ndim=image.ndim,
                **_place(image),
            )
            self._viewer.add_layer(self.shapes)
            self._viewer.layers.selection.active = active
            self.shapes.events.data.connect(self._on_data)
            self.opened.emit()
        return self.shapes

    def follow_channel(self, plane: Plane) -> None:
        """Bring all prompts to the channel of a plane, so that they are seen there."""
        with self._writing():
            if self.points is not None and len(self.points.data):
                self.points.data = self._on_channel(self.points.data, plane)
            if self.shapes is not None and len(self.shapes.data):
                self.shapes.data = [self._on_channel(each, plane) for each in self.shapes.data]

    def _on_channel(self, data: NDArray[np.float64], plane: Plane) -> NDArray[np.float64]:
        moved = np.array(data)
        for axis in self._ignored_axes:
            moved[:, axis] = plane.position_along(axis)
        return moved

    def use(self, tool: str) -> None:
        """Make a tool of `TOOLS` the one that the mouse uses."""
        if self._image is None:
            return
        layer = self.points if tool == "point" else self._open_shapes(self._image)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.selection.active = layer
            layer.mode = TOOLS[tool]

    def set_sign(self, is_positive: bool) -> None:
        """Choose what the next points are."""
        self._is_positive = is_positive
        if self.points is not None:
            self.points.feature_defaults = {"sign": SIGNS[is_positive]}

    def read(self, plane: Plane, shape_yx: tuple[int, int]) -> PlacedPrompts:
        """Read the prompts on a plane of the image.

        Parameters
        ----------
        plane : Plane
        shape_yx : tuple of int
            Its rows and columns; points beyond them do not count.

        Returns
        -------
        PlacedPrompts
        """
        points = [self._point(i, xy) for i, xy in self._points_on(plane) if _inside(xy, shape_yx)]
        boxes: list[BoxPrompt] = []
        masks: list[MaskPrompt] = []
        for kind, data, vertices_xy in self._shapes_on(plane):
            prompt = None if kind in SCRIBBLES else shape_prompt(kind, vertices_xy, shape_yx)
            if prompt is not None:
                self._drawings[prompt] = (kind, data)
            if isinstance(prompt, BoxPrompt):
                boxes.append(prompt)
            elif prompt is not None:
                masks.append(prompt)
        return PlacedPrompts(tuple(points), tuple(boxes), tuple(masks))

    def write(self, prompts: PlacedPrompts, plane: Plane, shape_yx: tuple[int, int]) -> None:
        """Show other prompts on a plane; those on other planes stay.

        A mask that nobody drew, because it was taken from labels, is not shown.
        """
        if self.points is None or self._image is None or self.read(plane, shape_yx) == prompts:
            return
        drawn: tuple[BoxPrompt | MaskPrompt, ...] = (
            *prompts.boxes,
            *(mask for mask in prompts.masks if self.is_drawn(mask)),
        )
        with self._writing():
            self._write_points(prompts.points, plane)
            if drawn:
                self._open_shapes(self._image)
            if self.shapes is not None:
                self._write_shapes(drawn, plane)

    def add_points(self, points_xy: NDArray[np.float64], plane: Plane) -> None:
        """Add points of the current sign, as if the user had clicked."""
        if self.points is None or self._image is None:
            return
        dims = self._viewer.dims
        data = from_plane_xy(points_xy, plane, self.points, self._image, dims)
        with self._writing():
            self.points.add(data)
        self._style_points()
        self.changed.emit()

    def is_drawn(self, mask: MaskPrompt) -> bool:
        """Tell whether a mask was drawn as a shape."""
        return mask in self._drawings

    def _points_on(self, plane: Plane) -> Iterator[tuple[int, NDArray[np.float64]]]:
        if self.points is None or self._image is None or not len(self.points.data):
            return
        xy, on_plane = self._to_plane(self.points.data, self.points, plane)
        for i in np.flatnonzero(on_plane).tolist():
            yield i, np.round(xy[i], DIGITS)

    def _point(self, i: int, xy: NDArray[np.float64]) -> PointPrompt:
        assert self.points is not None
        sign = self.points.features["sign"].iloc[i]
        return PointPrompt(float(xy[0]), float(xy[1]), sign != "negative")

    def _shapes_on(
        self, plane: Plane
    ) -> Iterator[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
        """Yield kind, data (N, D) and plane pixels (N, 2) of the shapes on a plane."""
        if self.shapes is None or self._image is None:
            return
        for kind, data in zip(self.shapes.shape_type, self.shapes.data, strict=True):
            xy, on_plane = self._to_plane(data, self.shapes, plane)
            if on_plane.all():
                yield kind, np.array(data), np.round(xy, DIGITS)

    def _write_points(self, points: tuple[PointPrompt, ...], plane: Plane) -> None:
        layer, image = self.points, self._image
        assert layer is not None
        assert image is not None
        here = [i for i, _ in self._points_on(plane)]
        elsewhere = np.setdiff1d(np.arange(len(layer.data)), here)
        signs = layer.features["sign"].iloc[elsewhere].tolist()
        xy = np.array([(point.x, point.y) for point in points]).reshape(-1, 2)
        new = from_plane_xy(xy, plane, layer, image, self._viewer.dims)
        data = np.concatenate([layer.data[elsewhere], new])
        layer.selected_data = set()
        layer.data = data
        layer.features = _features([*signs, *(SIGNS[point.is_positive] for point in points)])
        layer.feature_defaults = {"sign": SIGNS[self._is_positive]}
        self._style_points()

    def _write_shapes(self, prompts: tuple[BoxPrompt | MaskPrompt, ...], plane: Plane) -> None:
        layer, image = self.shapes, self._image
        assert layer is not None
        assert image is not None
        here = [i for i, data in enumerate(layer.data) if self._is_on(data, plane)]
        layer.selected_data = set(here)
        if here:
            layer.remove_selected()
        for prompt in prompts:
            kind, data = self._drawings.get(prompt, ("", np.zeros((0, 2))))
            if not kind and isinstance(prompt, BoxPrompt):
                x0, y0, x1, y1 = prompt.xyxy
                corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
                kind = "rectangle"
                data = from_plane_xy(corners, plane, layer, image, self._viewer.dims)
            if kind:
                layer.add(self._on_channel(data, plane), shape_type=kind)
        layer.selected_data = set()

    def _is_on(self, data: NDArray[np.float64], plane: Plane) -> bool:
        assert self.shapes is not None
        _, on_plane = self._to_plane(data, self.shapes, plane)
        return bool(on_plane.all())

    def _to_plane(
        self, data: NDArray[np.float64], layer: Layer, plane: Plane
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        assert self._image is not None
        dims = self._viewer.dims
        return to_plane_xy(data, layer, self._image, plane, dims, self._ignored_axes)

    def _on_data(self, event: Any) -> None:
        if self._is_writing or str(event.action) not in _USER_ACTIONS:
            return
        if event.source is self.points:
            self._style_points()
            QTimer.singleShot(0, self._unselect)  # napari selects a new point after it told of it
        elif self.shapes is not None and set(self.shapes.shape_type) & set(SCRIBBLES):
            QTimer.singleShot(0, self._take_scribbles)  # napari is still busy with the shape
            return
        self.changed.emit()

    def _take_scribbles(self) -> None:
        """Put points in the place of scribbles that are finished."""
        layer, image = self.shapes, self._image
        if layer is None or image is None or layer.mode not in ("add_path", "pan_zoom", "select"):
            return
        found = [i for i, kind in enumerate(layer.shape_type) if kind in SCRIBBLES]
        drawn = [np.array(layer.data[i]) for i in found]
        with self._writing():
            layer.selected_data = set(found)
            layer.remove_selected()
            if self.points is not None:
                for data in drawn:
                    self.points.add(points_along(data))
        self._style_points()
        self.changed.emit()

    def _style_points(self) -> None:
        """Show the sign of each point by its symbol too."""
        layer = self.points
        if layer is None:
            return
        symbols = [SYMBOLS[sign] for sign in layer.features["sign"]]
        if symbols and [str(symbol) for symbol in layer.symbol] != symbols:
            layer.symbol = symbols
        self._unselect()

    def _unselect(self) -> None:
        """Take napari's mark off points: it hides their sign, which the next must not change."""
        if self.points is not None and self.points.mode == "add" and self.points.selected_data:
            self.points.selected_data = set()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make changes that are not the user's."""
        before, self._is_writing = self._is_writing, True
        try:
            yield
        finally:
            self._is_writing = before


def _place(image: Image) -> dict[str, Any]:
    """Where an image lies, as arguments and attributes of a layer."""
    return {
        "scale": image.scale,
        "translate": image.translate,
        "rotate": image.rotate,
        "shear": image.shear,
        "affine": image.affine.affine_matrix,
        "units": image.units,
        "axis_labels": image.axis_labels,
    }


def _features(signs: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"sign": pd.Categorical(signs, categories=list(SIGNS))})


def _inside(xy: NDArray[np.float64], shape_yx: tuple[int, int]) -> bool:
    return bool((xy >= -0.5).all() and (xy <= np.array(shape_yx[::-1]) - 0.5).all())
