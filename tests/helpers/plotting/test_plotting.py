"""Figures: what they show, what they refuse, what they leave as it was."""

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from helpers.plotting import (
    draw_vae,
    latent,
    latent_span,
    plot_image_rows,
    plot_latent_space,
    plot_latent_space_images,
    plot_losses,
    plot_reconstructions,
    plot_sweep,
    visualize_img_batch,
)
from helpers.plotting.style import CARD, COLOURS
from helpers.training import History


@pytest.fixture(autouse=True)
def no_figure_stays_open() -> Iterator[None]:
    """Jupyter shows open figures a second time."""
    torch.manual_seed(0)
    plt.close("all")
    yield
    assert plt.get_fignums() == []


def encoder(latent_dim: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, latent_dim))


def digits(n_batches: int = 3) -> list[tuple[Tensor, Tensor]]:
    return [(torch.rand(20, 1, 28, 28), torch.arange(20) % 10) for _ in range(n_batches)]


def canvas(figure: Figure) -> np.ndarray:
    """The pixels (H, W, 3) of the figure's one picture."""
    (image,) = figure.axes[0].images
    return np.asarray(image.get_array())


def renders(figure: Figure) -> bool:
    figure.canvas.draw()
    return True


# --- colours -----------------------------------------------------------------------------------

#: How colours look without one kind of cones, for linear RGB (Machado, Oliveira & Fernandes, 2009).
BLINDNESS = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}


def cielab(linear: np.ndarray) -> np.ndarray:
    """Linear RGB (N, 3) in CIELAB, in which distances are about as large as they look."""
    rgb_to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.array(rgb_to_xyz).T / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_differ_for_everybody(kind: str) -> None:
    rgb = np.array([mpl.colors.to_rgb(colour) for colour in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = cielab(np.clip(linear @ np.array(BLINDNESS[kind]).T, 0, 1))
    distances = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 1e9 * np.eye(len(seen))
    assert distances.min() > 25


def test_figures_are_cards() -> None:
    """Not transparent, since dark text would vanish on a dark page, and not a white slab."""
    figures = [plot_losses([0.3, 0.2]), draw_vae(torch.rand(1, 28, 28))]
    for figure in figures:
        assert mpl.colors.to_hex(figure.get_facecolor()) == CARD
        assert mpl.colors.to_rgba(CARD)[3] == 1


# --- batches of images --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 1, 28, 28), (40, 3, 32, 24), (40, 28, 28)])
def test_batch_is_a_grid_of_eight_columns(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    figure = visualize_img_batch(images, n=12)
    height, width = shape[-2:]
    picture = canvas(figure)
    assert picture.shape == (2 * height + 2, 8 * width + 14, 3)
    ninth = images[8] if len(shape) == 3 else images[8, 0]
    assert np.allclose(picture[height + 2 :, :width, 0], ninth.numpy())
    assert figure.axes[0].get_title("left") == "12 of 40 images"
    assert renders(figure)


def test_batch_smaller_than_n_and_values_outside() -> None:
    picture = canvas(visualize_img_batch(torch.full((3, 1, 4, 4), 7.0), title="three"))
    assert picture.shape == (4, 3 * 4 + 4, 3)
    assert picture.max() == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(28, 28), r"\(N, 1, h, w\).*this has shape \(28, 28\)"),
        (torch.rand(5, 2, 28, 28), r"this has shape \(5, 2, 28, 28\)"),
        (torch.rand(5, 784), r"this has shape \(5, 784\)"),
        (torch.rand(0, 1, 28, 28), r"this has shape \(0, 1, 28, 28\)"),
        (torch.zeros(5, 1, 28, 28, dtype=torch.uint8), "torch.uint8: divide"),
    ],
)
def test_what_is_no_batch_is_one_sentence(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        visualize_img_batch(images)
    assert "\n" not in str(caught.value)


def test_reconstructions_stand_below_their_originals() -> None:
    originals, outputs = torch.rand(12, 1, 28, 28), torch.rand(12, 1, 28, 28, requires_grad=True)
    figure = plot_reconstructions(originals, outputs, n=4)
    picture = canvas(figure)
    third = slice(60, 88)
    assert np.allclose(picture[:28, third, 0], originals[2, 0])
    assert np.allclose(picture[30:, third, 0], outputs[2, 0].detach())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["original", "reconstruction"]
    assert figure.axes[0].get_yticks().tolist() == [14, 44]
    assert renders(figure)


def test_rows_of_any_number_but_one_size() -> None:
    images = torch.rand(3, 1, 8, 8)
    figure = plot_image_rows({"noisy": images, "denoised": images, "clean": images}, title="Rows")
    assert canvas(figure).shape == (3 * 8 + 4, 3 * 8 + 4, 3)
    with pytest.raises(ValueError, match="images of one size"):
        plot_reconstructions(images, torch.rand(3, 1, 9, 9))
    with pytest.raises(ValueError, match="no rows"):
        plot_image_rows({})


# --- the latent space ---------------------------------------------------------------------------


def test_latent_space_draws_the_codes() -> None:
    model, loader = encoder(), digits()
    figure = plot_latent_space(model, loader, "cpu", max_points=50)
    axes = figure.axes[0]
    dots = np.asarray(axes.collections[0].get_offsets())
    model.eval()
    with torch.no_grad():
        expected = model(torch.cat([images for images, _ in loader]))[:50]
    assert np.allclose(dots, expected, atol=1e-5)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [str(i) for i in range(10)]
    assert "z_1" in axes.get_xlabel()
    assert "PCA" not in axes.get_title("left")
    assert renders(figure)


def test_digits_differ_in_shape_too() -> None:
    axes = plot_latent_space(encoder(), digits(), "cpu").axes[0]
    paths = axes.collections[0].get_paths()
    labels = torch.cat([labels for _, labels in digits()]).tolist()
    of_label: dict[int, set[bytes]] = {}
    for label, path in zip(labels, paths, strict=True):
        of_label.setdefault(label, set()).add(path.vertices.tobytes())
    assert all(len(shapes) == 1 for shapes in of_label.values())
    assert len(set.union(*of_label.values())) == 10


def test_no_label_hides_another() -> None:
    """All means are at one place, as for a model that has learned nothing."""
    codes = torch.randn(500, 2)
    codes = torch.cat([codes, -codes])
    labels = torch.arange(10).repeat_interleave(100)
    figure = plot_latent_space(nn.Flatten(), [(codes.view(-1, 1, 1, 2), labels)])
    page = FigureCanvasAgg(figure)
    page.draw()
    boxes = [text.get_window_extent(page.get_renderer()) for text in figure.axes[0].texts]
    centres = np.array([[(b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2] for b in boxes])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e9 * np.eye(10)
    assert distances.min() > 0.9 * max(box.width for box in boxes)


def test_labels_stay_where_there_is_room() -> None:
    places = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert np.allclose(latent.moved_apart(places, 0.1), places, atol=1e-5)
    same = latent.moved_apart(np.zeros((3, 2)), 0.1)
    distances = np.linalg.norm(same[:, None] - same[None], axis=-1) + np.eye(3)
    assert distances.min() > 0.09


def test_latent_space_leaves_the_model_and_random_numbers_alone() -> None:
    model, loader = encoder(5), digits()
    model[1].eval()  # someone froze one layer
    model[0].train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    plot_latent_space(model, loader)
    assert [module.training for module in model] == [True, False, True]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_mode_comes_back_even_when_the_encoder_raises() -> None:
    model = encoder()
    with pytest.raises(RuntimeError):
        plot_latent_space(model, [(torch.rand(4, 1, 9, 9), torch.arange(4))])
    assert all(module.training for module in model.modules())


def test_more_than_two_numbers_are_projected_by_pca() -> None:
    class Stretched(nn.Module):
        """Codes of four numbers, of which the second and the fourth vary most."""

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4] * torch.tensor([0.1, 10.0, 0.1, 5.0])

    loader = digits(10)
    figure = plot_latent_space(Stretched(), loader)
    axes = figure.axes[0]
    title = axes.get_title("left")
    assert "4 numbers each, projected on two by PCA (100% of the variance)" in title
    assert axes.get_xlabel() == "first principal component"
    second = torch.cat([images for images, _ in loader]).flatten(1)[:, 1]
    first_component = np.asarray(axes.collections[0].get_offsets())[:, 0]
    assert abs(np.corrcoef(first_component, second)[0, 1]) > 0.99


def test_encoders_of_other_kinds() -> None:
    class Gaussian(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.flatten(1)[:, :2], torch.full((len(x), 2), 99.0)

    dots = plot_latent_space(Gaussian(), digits()).axes[0].collections[0].get_offsets()
    assert np.asarray(dots).max() <= 1
    plot_latent_space(lambda images: images.flatten(1)[:, :2], digits())


def test_codes_that_cannot_be_drawn_are_explained() -> None:
    with pytest.raises(ValueError, match=r"at least two numbers.*\(60, 1\)"):
        plot_latent_space(encoder(1), digits())
    with pytest.raises(ValueError, match="diverged"):
        plot_latent_space(lambda images: images.flatten(1)[:, :2] * float("nan"), digits())
    with pytest.raises(ValueError, match="no batch"):
        plot_latent_space(encoder(), [])


def test_span_is_the_range_without_outliers() -> None:
    def codes(images: Tensor) -> Tensor:
        line = torch.linspace(0, 100, len(images))
        return torch.stack([line, -2 * line], dim=1)

    span, span_y = latent_span(codes, [(torch.rand(101, 1, 28, 28), torch.zeros(101))])
    assert span == pytest.approx((1, 99))
    assert span_y == pytest.approx((-198, -2))


def test_decoded_images_stand_at_their_coordinates() -> None:
    class Shows(nn.Module):
        """An image of one shade: (z_1 + 10 z_2) / 100."""

        def forward(self, z: Tensor) -> Tensor:
            assert not self.training
            return ((z[:, 0] + 10 * z[:, 1]) / 100).view(-1, 1, 1, 1).expand(-1, 1, 5, 5)

    model = Shows()
    figure = plot_latent_space_images(model, n=3, span=(0, 4), span_y=(2, 8))
    assert model.training
    axes = figure.axes[0]
    (image,) = axes.images
    left, right, bottom, top = image.get_extent()
    assert (left, right, bottom, top) == (-1, 5, 0.5, 9.5)
    shades = canvas(figure)[2::5, 2::5, 0]
    # Rows from the top: z_2 = 8, 5, 2. Columns: z_1 = 0, 2, 4.
    expected = [[0.80, 0.82, 0.84], [0.50, 0.52, 0.54], [0.20, 0.22, 0.24]]
    assert np.allclose(shades, expected)
    assert axes.get_ylim() == (0.5, 9.5)
    assert renders(figure)


def test_decoder_grid_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match="spans"):
        plot_latent_space_images(nn.Identity(), span=(3, -3))
    with pytest.raises(ValueError, match=r"this has shape \(4, 2\)"):
        plot_latent_space_images(nn.Identity(), n=2)


# --- curves -------------------------------------------------------------------------------------


def test_losses_by_epoch_with_threshold() -> None:
    figure = plot_losses(History("ae", [0.09, 0.05, 0.0375]), threshold=0.04, ylabel="MSE")
    axes = figure.axes[0]
    curve, line = axes.lines
    assert np.asarray(curve.get_xdata()).tolist() == [1, 2, 3]
    assert np.asarray(line.get_ydata()).tolist() == [0.04, 0.04]
    assert line.get_linestyle() == "--"
    assert [text.get_text() for text in axes.texts] == ["0.0375", "pass mark: below 0.04"]
    assert axes.get_yscale() == "linear"
    assert axes.get_title("left") == "Training of ae"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "MSE")
    assert renders(figure)
    assert all(float(tick).is_integer() for tick in axes.get_xticks())


@pytest.mark.parametrize("losses", [[], [3.0], list(range(40, 0, -1))])
def test_epoch_ticks_are_whole_numbers_for_any_length(losses: list[float]) -> None:
    figure = plot_losses(losses, title="Losses")
    assert renders(figure)
    assert all(float(tick).is_integer() for tick in figure.axes[0].get_xticks())


def test_several_curves_are_named() -> None:
    figure = plot_losses({"training": [3.0, 2.0], "test": [3.1, 2.2], "later": []})
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "training, last 2",
        "test, last 2.2",
    ]


def test_sweep_has_the_sizes_as_ticks() -> None:
    figure = plot_sweep([16, 2, 4], [0.01, 0.04, 0.03], "latent size", "MSE", threshold=0.02)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xticks().tolist() == [2, 4, 16]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4", "16"]
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.04, 0.03, 0.01]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("latent size", "MSE")
    assert renders(figure)


@pytest.mark.parametrize(("xs", "ys"), [([1, 2], [1.0]), ([], []), ([0, 1], [1.0, 2.0])])
def test_sweep_refuses_what_does_not_fit(xs: list[int], ys: list[float]) -> None:
    with pytest.raises(ValueError, match=r"one y for each x|positive"):
        plot_sweep(xs, ys)


def test_the_notebooks_own_style_is_left_alone() -> None:
    before = dict(mpl.rcParams)
    plot_losses([1.0, 0.5])
    assert dict(mpl.rcParams) == before
