"""The napari viewer as the dock needs it: images, views, the mask layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import napari
import numpy as np
from napari.layers import Image, Labels, Layer, Shapes
from napari.utils.transforms import Affine
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal
from vispy.gloo.context import get_current_canvas

from napari_seg.corrections.manifest import ReadAs
from napari_seg.inference.axes import AxesReading
from napari_seg.scoring.regions import Box
from napari_seg.workspace import ImageSource, View

__all__ = [
    "OWN",
    "ViewerLink",
    "camera",
    "coarse_transform",
    "find_view",
    "mask_transform",
    "part_transform",
    "remove_shapes",
]

#: Key in the metadata of image layers that the plugin adds: none of them is offered
#: for segmentation.
OWN = "napari-seg"


#: What units of length are in micrometres.
_MICROMETRES = {
    "micrometer": 1.0,
    "micrometre": 1.0,
    "micron": 1.0,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "millimeter": 1e3,
    "millimetre": 1e3,
}

#: Modules of napari whose objects draw layers and what lies over them.
_DRAWING = ("napari._vispy.layers", "napari._vispy.overlays")

#: What people call axes.
_AXIS_NAMES = {
    "t": "T",
    "time": "T",
    "z": "Z",
    "depth": "Z",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "channels": "C",
    "y": "Y",
    "x": "X",
}


class ViewerLink(QObject):
    """Follows the layers of one viewer.

    Signals
    -------
    imagesChanged
        Image layers came, went, or have another name.
    themeChanged : str
        The viewer has another theme.
    """

    imagesChanged = Signal()
    themeChanged = Signal(str)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self._first_names: WeakKeyDictionary[Image, str] = WeakKeyDictionary()
        events = viewer.layers.events
        events.inserted.connect(self._layers_changed)
        events.removed.connect(self._layers_changed)
        events.removing.connect(self._removing)
        events.reordered.connect(self._layers_changed)
        viewer.events.theme.connect(self._theme_changed)
        for layer in viewer.layers:
            layer.events.name.connect(self._layers_changed)

    def _layers_changed(self, event: Any = None) -> None:
        if event is not None and event.type == "inserted":
            event.value.events.name.connect(self._layers_changed)
        elif event is not None and event.type == "removed":
            event.value.events.name.disconnect(self._layers_changed)
        self.imagesChanged.emit()

    def _removing(self, event: Any) -> None:
        layer = self.viewer.layers[event.index]
        if isinstance(layer, Labels):
            keep_drawing(self.viewer.layers, layer)

    def _theme_changed(self, _: Any = None) -> None:
        self.themeChanged.emit(self.viewer.theme)

    def images(self) -> list[Image]:
        """Return the user's image layers, the topmost first."""
        return [
            layer
            for layer in reversed(self.viewer.layers)
            if isinstance(layer, Image) and OWN not in layer.metadata
        ]

    def source(self, layer: Image) -> ImageSource:
        """Return the image of a layer, under the name that it had at first.

        The saved work is found by it, and the file will open under it again.
        """
        name = self._first_names.setdefault(layer, layer.name)
        return ImageSource(
            name,
            layer.data,
            bool(layer.rgb),
            ReadAs(axes=_labelled_axes(layer)),
            pixel_size=_pixel_size(layer),
            steps=tuple(map(float, layer.scale)),
        )

    def add_mask(self, image: Image, labels: NDArray[np.uint8], name: str) -> Labels:
        """Show the mask over its image, ready for the brush.

        The layer shares the array: it is edited in place.
        """
        transform = mask_transform(image, labels.ndim)
        layer = Labels(labels, name=name, opacity=0.5, **transform)
        self.viewer.add_layer(layer)
        self.viewer.layers.selection.active = layer
        layer.brush_size = 10
        layer.selected_label = 1
        layer.mode = "paint"
        return layer

    def remove(self, layer: Layer | None) -> None:
        """Take a layer out of the viewer, if it is there."""
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def view(self, layer: Image | Labels, reading: AxesReading) -> View:
        """Return the part of the mask's plane that is on the screen."""
        return find_view(self.viewer, layer, reading)

    def show(self, layer: Labels, box: Box) -> None:
        """Bring a box of the mask to the middle of the canvas."""
        centre = [(part.start + part.stop - 1) / 2 for part in box]
        world = np.asarray(layer.data_to_world(centre))
        dims = self.viewer.dims
        for axis, position in enumerate(world, start=dims.ndim - len(world)):
            if axis in dims.not_displayed:
                dims.set_point(axis, position)
        shown = [axis - (dims.ndim - len(world)) for axis in dims.displayed]
        camera(self.viewer).center = tuple(world[axis] for axis in shown)

    def fit(self, layer: Image) -> None:
        """Show the whole of a layer, whatever else there is, hidden or not."""
        self.viewer.reset_view()
        axes = [axis - self.viewer.dims.ndim for axis in self.viewer.dims.displayed]
        if min(axes) < -layer.ndim:
            return
        everything, corners = (
            extent.world[:, axes]
            for extent in (self.viewer.layers.extent, layer.extent)
        )
        larger = np.ptp(everything, axis=0) / np.maximum(np.ptp(corners, axis=0), 1e-9)
        view = camera(self.viewer)
        view.center = tuple(corners.mean(0))
        view.zoom *= larger[-2:].min()

    def disconnect_all(self) -> None:
        """Forget the viewer."""
        events = self.viewer.layers.events
        events.inserted.disconnect(self._layers_changed)
        events.removed.disconnect(self._layers_changed)
        events.removing.disconnect(self._removing)
        events.reordered.disconnect(self._layers_changed)
        self.viewer.events.theme.disconnect(self._theme_changed)
        for layer in self.viewer.layers:
            layer.events.name.disconnect(self._layers_changed)


def _labelled_axes(layer: Image) -> str | None:
    """Return the axes as the layer's own labels name them, if they all do."""
    labels = [str(label).lower() for label in getattr(layer, "axis_labels", ())]
    letters = "".join(_AXIS_NAMES.get(label, "") for label in labels)
    complete = len(set(letters)) == len(labels) and {"Y", "X"} <= set(letters)
    # The samples of RGB are no axis of the layer.
    return letters if complete and not layer.rgb else None


def _pixel_size(layer: Image) -> float | None:
    """Return the side of a pixel in micrometres, if the layer tells it."""
    units = [str(unit) for unit in getattr(layer, "units", ())[-2:]]
    sides = [float(side) for side in layer.scale[-2:]]
    square = sides[0] == sides[1] and len(set(units)) == 1
    factor = _MICROMETRES.get(units[0]) if square else None
    return None if factor is None else sides[0] * factor


def camera(viewer: Any) -> Any:
    """Return the camera of a viewer."""
    # Since 0.9 napari wants it to be found in the scene.
    return getattr(viewer, "scene", viewer).camera


def remove_shapes(layers: Any, layer: Shapes) -> None:
    """Take a Shapes layer out of the viewer, if it is there.

    What draws it is kept: where Python destroys that, some graphics drivers crash when
    the next layer is drawn for the first time (napari's issues 6472 and 8471; seen with
    0.9.2 on Mesa).
    """
    if layer in layers:
        _keep_visuals(layers, layer.events)
        layers.remove(layer)


def keep_drawing(layers: Any, layer: Labels) -> None:
    """Keep what draws a mask that is about to be removed, whoever removes it.

    Its polygon tool is drawn as a Shapes layer is, and can crash as one does: see
    :func:`remove_shapes`. It costs the memory of the mask on the graphics card until
    the viewer is closed, so it is done only where these drivers are.
    """
    if not _is_mesa():
        return
    # napari has no public name for them; a plugin is handed the layer in a wrapper.
    bare = getattr(layer, "__wrapped__", layer)
    _keep_visuals(layers, bare.events)
    for overlay in getattr(bare, "_overlays", {}).values():
        _keep_visuals(layers, overlay.events)


def _is_mesa() -> bool:
    """Return whether Mesa draws, as on Linux without a driver of the card's maker."""
    canvas = get_current_canvas()
    if canvas is None:
        return False
    told = canvas.context.shared.parser.capabilities
    return "Mesa" in str(told.get("gl_version", ""))


def _keep_visuals(layers: Any, events: Any) -> None:
    """Keep alive what listens to these events in order to draw."""
    visuals = {
        id(owner): owner
        for owner in _listeners(events)
        if type(owner).__module__.startswith(_DRAWING)
    }
    # With the list of layers, which is gone when the viewer is.
    layers.visuals_kept_by_napari_seg = [
        *getattr(layers, "visuals_kept_by_napari_seg", ()),
        *visuals.values(),
    ]


def _listeners(events: Any) -> Iterator[object]:
    """Yield whose methods are called: napari has two kinds of events."""
    if hasattr(events, "emitters"):
        for callback in chain.from_iterable(
            emitter.callbacks for emitter in events.emitters.values()
        ):
            if isinstance(callback, tuple):
                yield callback[0]()
    else:
        for signal in events.signals.values():
            for slot in getattr(signal, "_slots", ()):
                yield getattr(slot.dereference(), "__self__", None)


def mask_transform(image: Image | Labels, ndim: int) -> dict[str, Any]:
    """Return scale, translation, rotation, shear, affine and units for the mask.

    The mask has the last `ndim` axes of the layer; a channel axis before them has no
    place in it.
    """
    keep = slice(image.ndim - ndim, image.ndim)
    whole = [*range(image.ndim)[keep], image.ndim]
    transform: dict[str, Any] = {
        "scale": image.scale[keep],
        "translate": image.translate[keep],
        "rotate": image.rotate[keep, keep],
        "affine": image.affine.affine_matrix[np.ix_(whole, whole)],
    }
    if ndim == image.ndim:
        transform["shear"] = image.shear
    for name in ("units", "axis_labels"):
        # napari knows them since 0.5.4.
        if hasattr(image, name):
            transform[name] = tuple(getattr(image, name))[keep]
    return transform


def part_transform(mask: Labels, start: Sequence[float]) -> dict[str, Any]:
    """Return the transform for a part of the mask that begins at `start`."""
    transform = mask_transform(mask, mask.ndim)
    turned = Affine(
        scale=transform["scale"], rotate=transform["rotate"], shear=transform["shear"]
    )
    offset = turned.linear_matrix @ np.asarray(start)
    return transform | {"translate": transform["translate"] + offset}


def coarse_transform(mask: Labels, side: int) -> dict[str, Any]:
    """Return the transform for an image of cells of `side` × `side` pixels each."""
    flat = mask.ndim - 2
    # The middle of the first cell, where napari puts it, is not that of a pixel.
    transform = part_transform(mask, [0.0] * flat + [(side - 1) / 2] * 2)
    return transform | {"scale": transform["scale"] * ([1] * flat + [side] * 2)}


def find_view(
    viewer: napari.Viewer, layer: Image | Labels, reading: AxesReading
) -> View:
    """Return the visible rows and columns of the current plane.

    Where the viewer shows something else than rows and columns (3-D, or other axes),
    the whole plane counts as visible.
    """
    height, width = reading.plane_shape
    rows, columns = slice(0, height), slice(0, width)
    n_leading = len(reading.leading)
    point = np.asarray(layer.world_to_data(viewer.dims.point))
    spatial = point[len(point) - n_leading - 2 :]
    lengths = reading.leading_shape
    index = tuple(
        int(np.clip(round(position), 0, length - 1))
        for position, length in zip(spatial[:n_leading], lengths, strict=True)
    )
    displayed = tuple(viewer.dims.displayed)
    last_two = (viewer.dims.ndim - 2, viewer.dims.ndim - 1)
    # Without rgb, samples in the last axis are shown as if they were columns.
    plain = reading.axes.endswith("YX") or getattr(layer, "rgb", True)
    if plain and viewer.dims.ndisplay == 2 and set(displayed) == set(last_two):
        scale = layer.downsample_factors[layer.data_level] if layer.multiscale else 1
        corners = layer.corner_pixels * scale
        top, left = np.floor(corners[0][-2:]).astype(int)
        bottom, right = np.ceil(corners[1][-2:]).astype(int) + 1
        rows = _clipped(top, bottom, height)
        columns = _clipped(left, right, width)
    return View(index, rows, columns)


def _clipped(start: int, stop: int, side: int) -> slice:
    start, stop = max(int(start), 0), min(int(stop), side)
    # Nothing of the image is on the screen: then all of it counts.
    return slice(start, stop) if start < stop else slice(0, side)
