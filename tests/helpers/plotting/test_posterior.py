"""The picture of all codes taken together."""

import pytest
import torch

from helpers.plotting import plot_aggregate


def test_each_number_has_its_curve_beside_the_prior() -> None:
    codes = torch.randn(20_000, 3) * torch.tensor([1.0, 0.5, 1.0]) + torch.tensor([0.0, 0.0, 2.0])
    (axes,) = plot_aggregate(codes).axes
    assert len(axes.lines) == 4
    peaks = [line.get_xdata()[line.get_ydata().argmax()] for line in axes.lines]
    heights = [float(line.get_ydata().max()) for line in axes.lines]
    assert peaks == pytest.approx([0, 0, 2, 0], abs=0.3)
    # A density: half the spread, twice the height.
    assert heights == pytest.approx([0.4, 0.8, 0.4, 0.4], rel=0.1)


@pytest.mark.parametrize("shape", [(5,), (0, 3), (2, 3, 4)])
def test_only_codes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Codes should be \(N, Z\)"):
        plot_aggregate(torch.zeros(shape))
