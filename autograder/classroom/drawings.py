"""Computes the coordinates of the drawings on the pages; the templates draw them."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from autograder.judging import Judgement


def loss_curve(name: str, losses: Sequence[float], threshold: float | None) -> dict[str, Any]:
    """The coordinates of the losses, the threshold and the ticks of both axes."""
    width, height, left, right, top, bottom = 560, 230, 62, 92, 14, 46
    shown = [*losses, *([] if threshold is None else [threshold])]
    low, high = min(shown), max(shown)
    pad = 0.08 * ((high - low) or abs(high) or 1.0)
    low, high = low - pad, high + pad
    n = len(losses)

    def x(epoch: float) -> float:
        share = (epoch - 1) / (n - 1) if n > 1 else 0.5
        return round(left + (width - left - right) * share, 1)

    def y(loss: float) -> float:
        return round(top + (height - top - bottom) * (high - loss) / (high - low), 1)

    points = [(x(epoch), y(loss)) for epoch, loss in enumerate(losses, 1)]
    epochs = [epoch for epoch in _ticks(1, n, 8) if epoch == int(epoch)]
    return {
        "name": name, "n": n, "first": f"{losses[0]:.3g}", "last": f"{losses[-1]:.3g}",
        "threshold": "" if threshold is None else f"{threshold:g}",
        "threshold_y": y(threshold or 0.0),
        "width": width, "height": height, "left": left, "right": width - right,
        "top": top, "bottom": height - bottom,
        "points": points, "line": " ".join(f"{px},{py}" for px, py in points),
        "x_ticks": [(x(epoch), f"{epoch:g}") for epoch in epochs],
        "y_ticks": [(y(loss), f"{loss:.4g}") for loss in _ticks(low, high, 5)],
    }  # fmt: skip


def _ticks(low: float, high: float, n_most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    least = (high - low) / n_most
    power: float = 10.0 ** math.floor(math.log10(least))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= least * 0.999)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def score_histogram(marked: Sequence[Judgement]) -> list[dict[str, Any]]:
    """The bars of a histogram: how many submissions have each tenth of the points."""
    shares = [percent(result.score or 0.0, result.max_score) for result in marked]
    counts = Counter(min(share // 10, 9) for share in shares)
    tallest = max(counts.values(), default=1)
    return [
        {"x": 30 * n, "height": round(64 * counts[n] / tallest, 1), "count": counts[n]}
        for n in range(10)
    ]


def percent(part: float, whole: float) -> int:
    """A whole number from 0 to 100, rounded down, so that 100 means all."""
    return max(0, min(100, math.floor(100 * part / whole + 1e-9))) if whole > 0 else 0
