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

#: Pictures in a row of the fixed figure, and screen pixels per pixel of the interactive picture.
N_STEPS, ZOOM = 9, 5

#: (lowest, highest) or (lowest, start, highest) for a slider, with whole numbers for whole steps;
#: or a list of options for a menu.
Control = tuple[float, ...] | list[Any]


def explore(draw: Callable[..., Tensor], /, **controls: Control) -> Figure:
    """A picture that is redrawn when its controls are moved.

    If ipywidgets is installed, the controls and the picture are displayed. The returned figure is
    fixed and stays in the saved notebook: each of its rows moves one control from end to end, with
    the others at their start.

    Args:
        draw: takes one value for each control, by name, and returns images (N, 1, h, w) or
            (N, 3, h, w) in [0, 1], or one image without the first axis.
        controls: (lowest, highest) or (lowest, start, highest) for a slider, which moves in whole
            steps if these are whole numbers; or a list of options. A slider without a start begins
            in the middle, a list with its first option.
    """
    if importlib.util.find_spec("ipywidgets") is not None:
        _show_controls(draw, controls)
    start = {name: _start(control) for name, control in controls.items()}
    rows = {
        name: torch.cat([_batch(draw(**{**start, name: value}))[:1] for value in _steps(control)])
        for name, control in controls.items()
    }
    return plot_image_rows(rows, n=N_STEPS)


def _show_controls(draw: Callable[..., Tensor], controls: dict[str, Control]) -> None:
    """Display sliders and menus above a picture that is redrawn when they change."""
    import ipywidgets
    from IPython.display import display

    picture = ipywidgets.Image(format="png")
    inputs = {name: _widget(ipywidgets, name, control) for name, control in controls.items()}

    def redraw(_: Any = None) -> None:
        picture.value = _png(draw(**{name: widget.value for name, widget in inputs.items()}))

    for widget in inputs.values():
        widget.observe(redraw, names="value")
    redraw()
    display(ipywidgets.VBox([*inputs.values(), picture]))


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


def _batch(images: Tensor) -> Tensor:
    return images if images.ndim == 4 else images[None]


def _png(images: Tensor) -> bytes:
    """The images side by side, enlarged, as a PNG file."""
    pixels = as_pixels(_batch(images))
    canvas = (255 * mosaic(pixels, columns=len(pixels))).astype("uint8")
    image = Image.fromarray(canvas)
    image = image.resize((ZOOM * image.width, ZOOM * image.height), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
