"""Pictures with controls: what is drawn, when it is drawn anew, and what stands still."""

import io
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from helpers.plotting import explore, explorer


class Drawn:
    """A function to explore, which keeps what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **values: Any) -> Tensor:
        self.calls.append(values)
        return torch.full((1, 1, 28, 28), 0.5)


@pytest.fixture
def no_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explorer.importlib.util, "find_spec", lambda _: None)


@pytest.mark.usefixtures("no_widgets")
def test_without_widgets_each_row_moves_one_control() -> None:
    drawn = Drawn()
    figure = explore(drawn, slant=(-2.0, 2.0), digit=(0, 9), shown=["code", "mean"])
    assert isinstance(figure, Figure)
    rows = [drawn.calls[:9], drawn.calls[9:18], drawn.calls[18:]]
    assert [call["slant"] for call in rows[0]] == pytest.approx(torch.linspace(-2, 2, 9).tolist())
    assert {call["digit"] for call in rows[0]} == {4}
    assert [call["digit"] for call in rows[1]] == sorted({call["digit"] for call in rows[1]})
    assert all(isinstance(call["digit"], int) for call in drawn.calls)
    assert [call["shown"] for call in rows[2]] == ["code", "mean"]
    assert {call["shown"] for call in rows[0]} == {"code"}


@pytest.mark.usefixtures("no_widgets")
def test_a_slider_may_say_where_it_starts() -> None:
    drawn = Drawn()
    explore(drawn, noise=(0.0, 0.25, 1.0), digit=(0, 3, 31))
    assert {call["digit"] for call in drawn.calls if call["noise"] != 0.25} == {3}


def test_moving_a_slider_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ipywidgets = pytest.importorskip("ipywidgets")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    drawn = Drawn()
    explore(drawn, digit=(0, 9), style=["plain", "bold"])
    slider, menu, picture = shown[0].children
    assert isinstance(slider, ipywidgets.IntSlider)
    before = len(drawn.calls)
    slider.value = 7
    menu.value = "bold"
    assert drawn.calls[before:] == [{"digit": 7, "style": "plain"}, {"digit": 7, "style": "bold"}]
    image = Image.open(io.BytesIO(picture.value))
    assert image.size == (28 * explorer.ZOOM, 28 * explorer.ZOOM)
