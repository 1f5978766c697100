"""Curves: losses over epochs, results over the values of a setting."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from helpers.plotting.style import COLOURS, MARKERS, NUMBER, new_figure
from helpers.training import History


def plot_losses(
    history_or_losses: History | Sequence[float] | Mapping[str, Sequence[float]],
    threshold: float | None = None,
    title: str | None = None,
    ylabel: str = "loss, mean of the epoch",
) -> Figure:
    """The loss of every epoch, with the value of the last one written next to it.

    Args:
        history_or_losses: a history, its losses, or several curves by name, such as
            ``{"training": ..., "test": ...}``.
        threshold: drawn as a dashed line; the final loss must be below it.
        title: by default the name in the history, if there is one.
        ylabel: the loss and its unit, such as "BCE + KL, nats per image".
    """
    curves: Mapping[str, Sequence[float]]
    if isinstance(history_or_losses, History):
        curves = {"": history_or_losses.losses}
        title = title or f"Training of {history_or_losses.name}"
    elif isinstance(history_or_losses, Mapping):
        curves = history_or_losses
    else:
        curves = {"": history_or_losses}

    with new_figure(6.4, 4.0) as (figure, axes):
        for (name, losses), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
            if not losses:
                continue
            label = f"{name}, last {losses[-1]:.4g}"
            epochs = range(1, len(losses) + 1)
            axes.plot(epochs, losses, marker=marker, markersize=5, color=colour, label=label)
            if len(curves) == 1:
                end = (epochs[-1], losses[-1])
                axes.annotate(f"{losses[-1]:.4g}", end, (0, 9), **NUMBER, ha="center")
        longest = max((len(losses) for losses in curves.values()), default=0)
        if longest == 0:
            axes.text(0.5, 0.5, "no epoch yet", ha="center", transform=axes.transAxes)
        elif len(curves) > 1:
            axes.legend(frameon=False)
        axes.set_xlim(0.5, max(longest, 2) + 0.5)
        if threshold is not None:
            lasts = [losses[-1] for losses in curves.values() if losses]
            draw_threshold(axes, threshold, above=min(lasts, default=0) > threshold)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(ylabel)
        if title:
            axes.set_title(title, loc="left")
    return figure


def plot_sweep(
    xs: Sequence[int],
    ys: Sequence[float],
    xlabel: str = "latent size (numbers per image)",
    ylabel: str = "loss after training",
    title: str | None = None,
    threshold: float | None = None,
) -> Figure:
    """The result for each size that was tried, on a logarithmic axis.

    Args:
        xs: the sizes, positive.
        ys: the result for each size.
        xlabel: the setting that was varied.
        ylabel: the quantity that was measured, with its unit.
        title: above the figure.
        threshold: drawn as a dashed line.

    Raises:
        ValueError: if ``xs`` and ``ys`` differ in length or are empty, or a size is not positive.
    """
    if len(xs) != len(ys) or not xs:
        raise ValueError(
            f"There should be one y for each x, but there are {len(xs)} xs and {len(ys)} ys."
        )
    if min(xs) <= 0:
        raise ValueError(f"The sizes should be positive, but one of them is {min(xs)}.")
    points = sorted(zip(xs, ys, strict=True))
    with new_figure(6.4, 4.0) as (figure, axes):
        axes.plot(*zip(*points, strict=True), "o-", color=COLOURS[0])
        for x, y in points:
            axes.annotate(f"{y:.3g}", (x, y), (4, 6), **NUMBER)
        if threshold is not None:
            draw_threshold(axes, threshold, above=points[-1][1] > threshold)
        axes.set_xscale("log", base=2)
        axes.set_xticks([x for x, _ in points], [f"{x:g}" for x, _ in points])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.08, y=0.15)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if title:
            axes.set_title(title, loc="left")
    return figure


def draw_threshold(axes: Axes, threshold: float, *, above: bool) -> None:
    """Draw a pass mark as a dashed line; ``above``: the training ended above it."""
    axes.axhline(threshold, color="#333333", linestyle="--", linewidth=1.2)
    axes.annotate(
        f"pass mark: below {threshold:g}",
        (1, threshold),
        # On the right, on the side of the line on which the curves do not end.
        (-6, -13 if above else 5),
        xycoords=axes.get_yaxis_transform(),
        **{**NUMBER, "ha": "right"},
    )
