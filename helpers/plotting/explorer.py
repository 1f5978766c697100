"""Pictures controlled by sliders; without widgets, a fixed picture."""

import importlib.util
import io
from collections.abc import Callable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from helpers.plotting.images import as_pixels, mosaic, plot_image_rows

#: Pictures in a row of the fixed figure.
N_STEPS = 9
#: About the height of the interactive picture in screen pixels, and its largest width.
HEIGHT, MAX_WIDTH = 224, 672

#: (lowest, highest) or (lowest, start, highest) for a slider, with whole numbers for whole steps;
#: or a list of options for a menu.
Control = tuple[float, ...] | list[Any]


def explore(
    draw: Callable[..., Tensor], /, *, on_release: bool = False, **controls: Control
) -> Figure:
    """A picture that is redrawn when its controls are moved.

    If ipywidgets is installed, the controls and the picture are displayed. The returned figure is
    fixed and stays in the saved notebook: each of its rows moves one control from end to end, with
    the others at their start.

    Args:
        draw: takes one value for each control, by name, and returns images (N, 1, h, w) or
            (N, 3, h, w) in [0, 1], or one image without the first axis.
        on_release: whether to redraw only when a slider is released, for a slow ``draw``.
        controls: (lowest, highest) or (lowest, start, highest) for a slider, which moves in whole
            steps if these are whole numbers; or a list of options. A slider without a start begins
            in the middle, a list with its first option. A slider in whole steps ends earlier if
            there is nothing to draw for the highest, as for the image 31 of a batch of 8.
    """
    try:
        figure = _fixed(draw, controls)
    except Exception:  # there may be fewer images than a slider has steps
        controls = {name: _within_reach(draw, name, controls) for name in controls}
        figure = _fixed(draw, controls)
    if importlib.util.find_spec("ipywidgets") is not None:
        _show_controls(draw, controls, on_release)
    return figure


def _fixed(draw: Callable[..., Tensor], controls: dict[str, Control]) -> Figure:
    """A figure with a row for each control."""
    start = {name: _start(control) for name, control in controls.items()}
    rows = {
        name: torch.cat([_first(draw(**{**start, name: value})) for value in _steps(control)])
        for name, control in controls.items()
    }
    return plot_image_rows(rows, n=N_STEPS)


def _within_reach(draw: Callable[..., Tensor], name: str, controls: dict[str, Control]) -> Control:
    """The control; if there is no picture for its highest value, with the highest that has one."""
    control = controls[name]
    if isinstance(control, list) or not _is_whole(control):
        return control

    def is_there(value: int) -> bool:
        # The other controls are where there is a picture, if there is one anywhere.
        try:
            _first(draw(**{**{key: other[0] for key, other in controls.items()}, name: value}))
        except Exception:  # as for an index beyond the end
            return False
        return True

    low, high = int(control[0]), int(control[-1])
    if is_there(high) or not is_there(low):  # in the second case the student should see why
        return control
    beyond = high
    while beyond - low > 1:
        middle = (low + beyond) // 2
        low, beyond = (middle, beyond) if is_there(middle) else (low, middle)
    return (*(min(value, low) for value in control[:-1]), low)


def _show_controls(
    draw: Callable[..., Tensor], controls: dict[str, Control], on_release: bool
) -> None:
    """Display sliders and menus next to a picture that is redrawn when they change."""
    import ipywidgets
    from IPython.display import display

    # Without a width of its own, the picture would be stretched to that of the cell.
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start", "margin": "4px"})
    inputs = {name: _widget(ipywidgets, name, control) for name, control in controls.items()}

    def redraw(_: Any = None) -> None:
        image = _picture(draw(**{name: widget.value for name, widget in inputs.items()}))
        picture.layout.width, picture.layout.height = f"{image.width}px", f"{image.height}px"
        picture.value = _png(image)

    for widget in inputs.values():
        if on_release and hasattr(widget, "continuous_update"):
            widget.continuous_update = False
        widget.observe(redraw, names="value")
    redraw()
    display(ipywidgets.HBox([ipywidgets.VBox([*inputs.values()]), picture]))


def _widget(ipywidgets: Any, name: str, control: Control) -> Any:
    if isinstance(control, list):
        return ipywidgets.Dropdown(options=control, description=name)
    low, high, start = control[0], control[-1], _start(control)
    slider = ipywidgets.IntSlider if _is_whole(control) else ipywidgets.FloatSlider
    step = 1 if _is_whole(control) else (high - low) / 100
    return slider(min=low, max=high, step=step, value=start, description=name)


def _start(control: Control) -> Any:
    if isinstance(control, list):
        return control[0]
    if len(control) == 3:
        return control[1]
    total = control[0] + control[-1]
    return total // 2 if _is_whole(control) else total / 2


def _is_whole(control: Sequence[Any]) -> bool:
    return all(isinstance(value, int) for value in control)


def _steps(control: Control) -> list[Any]:
    """Values from end to end of a slider, or the first options of a list."""
    if isinstance(control, list):
        return control[:N_STEPS]
    values = torch.linspace(control[0], control[-1], N_STEPS).tolist()
    if _is_whole(control):
        return list(dict.fromkeys(round(value) for value in values))
    return values


def _first(images: Tensor) -> Tensor:
    """A batch of the first image.

    Raises:
        IndexError: if there is none.
    """
    batch = _batch(images)
    if len(batch) == 0:
        raise IndexError("There is no image to draw.")
    return batch[:1]


def _batch(images: Tensor) -> Tensor:
    return images if images.ndim == 4 else images[None]


def _picture(images: Tensor) -> Image.Image:
    """The images side by side, enlarged by a whole number."""
    pixels = as_pixels(_batch(images))
    image = Image.fromarray((255 * mosaic(pixels, columns=len(pixels))).astype("uint8"))
    zoom = max(1, min(HEIGHT // image.height, MAX_WIDTH // image.width))
    return image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
