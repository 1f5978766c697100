"""Pictures with controls: what is drawn, when it is drawn anew, and what stands still."""

import io
from collections.abc import Callable
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
    controls, picture = shown[0].children
    slider, menu = controls.children
    assert isinstance(slider, ipywidgets.IntSlider)
    before = len(drawn.calls)
    slider.value = 7
    menu.value = "bold"
    assert drawn.calls[before:] == [{"digit": 7, "style": "plain"}, {"digit": 7, "style": "bold"}]
    image = Image.open(io.BytesIO(picture.value))
    assert image.size == (224, 224)
    assert (picture.layout.width, picture.layout.height) == ("224px", "224px")
    assert picture.layout.align_self == "flex-start"


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 28, 28), (224, 224)),
        ((1, 1, 56, 28), (112, 224)),
        ((10, 1, 28, 28), (2 * 298, 2 * 28)),  # as wide as fits
        ((3, 150, 150), (150, 150)),
        ((1, 3, 512, 512), (512, 512)),
    ],
)
def test_the_picture_has_a_sensible_size(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    assert explorer._picture(torch.rand(shape)).size == size


@pytest.mark.parametrize("on_release", [False, True])
def test_sliders_may_wait_for_their_release(
    on_release: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipywidgets")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    explore(Drawn(), on_release=on_release, digit=(0, 9), by=(0.0, 1.0), style=["plain", "bold"])
    sliders = shown[0].children[0].children[:2]
    assert [slider.continuous_update for slider in sliders] == [not on_release] * 2


# A batch with fewer images than the slider's range.


def sliced(digit: int) -> Tensor:
    return torch.rand(8, 1, 28, 28)[digit : digit + 1]


def indexed(digit: int) -> Tensor:
    return torch.rand(8, 1, 28, 28)[digit]


def decoded(digit: int) -> Tensor:
    return torch.nn.Conv2d(1, 1, 3, padding=1)(torch.rand(8, 1, 28, 28)[[digit]]).detach()


@pytest.mark.parametrize("draw", [sliced, indexed, decoded])
@pytest.mark.parametrize("control", [(0, 31), (0, 20, 31), (3, 8), (0, 0, 9)])
def test_a_slider_ends_with_the_batch(
    draw: Callable[[int], Tensor], control: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipywidgets")
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    explore(draw, digit=control)
    (slider,) = shown[0].children[0].children
    assert (slider.min, slider.max) == (control[0], 7)
    assert slider.value <= 7


def test_a_slider_that_has_enough_keeps_its_range() -> None:
    for control in [(0, 7), (0, 3, 7), (2, 2, 5)]:
        assert explorer._within_reach(sliced, "digit", {"digit": control}) == control


@pytest.mark.usefixtures("no_widgets")
def test_an_error_at_every_value_is_shown() -> None:
    def broken(digit: int) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explore(broken, digit=(0, 31))
    with pytest.raises(IndexError, match="no image to draw"):
        explore(sliced, digit=(8, 31))


@pytest.mark.usefixtures("no_widgets")
def test_two_sliders_beyond_the_batch() -> None:
    figure = explore(lambda a, b: sliced(a) + sliced(b), a=(0, 20, 31), b=(0, 25, 31))
    assert isinstance(figure, Figure)
