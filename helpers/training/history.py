"""The record of a training, and how it is stored as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

import torch


@dataclass
class History:
    """The record of one training.

    Attributes:
        name: the model's name, also that of its files.
        losses: mean loss of each epoch, as returned by the student's ``train_epoch``.
        seconds: duration of each epoch.
        n_parameters: number of trainable parameters of the model.
        device: of the model: ``cpu``, ``cuda`` or ``mps``.
        versions: of ``python``, ``torch`` and ``torchvision``.
        seed: the last one given to ``set_seed``; None if it was not called.
        trained_at: end of the last epoch (ISO 8601, with the offset from UTC), or "".
        finished: whether all epochs were completed.
    """

    name: str
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    n_parameters: int = 0
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    trained_at: str = ""
    finished: bool = False

    def to_json(self) -> str:
        """This history as JSON text; :meth:`from_json` reads it back."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> History:
        """Read the text that :meth:`to_json` wrote; anything else is refused.

        Raises:
            ValueError: with one sentence about the first thing that is wrong.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("This training history is damaged: it is not JSON.") from None
        names = {entry.name for entry in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            raise ValueError(
                f"This training history is damaged: it should have exactly the entries "
                f"{', '.join(sorted(names))}."
            )
        for name, (holds, expected) in HISTORY_RULES.items():
            if not holds(data[name]):
                raise ValueError(
                    f"This training history is damaged: {name!r} should be {expected}."
                )
        if len(data["losses"]) != len(data["seconds"]):
            raise ValueError(
                "This training history is damaged: 'losses' and 'seconds' differ in length."
            )
        if data["finished"] and not data["losses"]:
            raise ValueError("This training history is damaged: it finished without an epoch.")
        return cls(**data)


def is_finite_list(value: object) -> bool:
    """Whether ``value`` is a list of finite numbers. A bool does not count as a number."""
    return isinstance(value, list) and all(
        # A whole number in JSON may be too large for a float.
        type(item) in (int, float) and abs(item) < 1e300
        for item in value
    )


def is_time(value: object) -> bool:
    """Whether ``value`` is "" or a time in ISO 8601."""
    try:
        return isinstance(value, str) and (not value or bool(datetime.fromisoformat(value)))
    except ValueError:
        return False


#: For each entry of a history: a test of its value, and the requirement in words.
HISTORY_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str), "text"),
    "losses": (is_finite_list, "a list of finite numbers"),
    "seconds": (is_finite_list, "a list of finite numbers"),
    "n_parameters": (lambda value: type(value) is int and value >= 0, "a whole number"),
    "device": (lambda value: isinstance(value, str), "text"),
    "versions": (
        lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
        "names with the text of their versions",
    ),
    "seed": (lambda value: value is None or type(value) is int, "a whole number or null"),
    "trained_at": (is_time, "a time such as 2025-11-21T09:30:00+01:00"),
    "finished": (lambda value: isinstance(value, bool), "true or false"),
}


def plural(n_epochs: int) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{n_epochs} epoch{'' if n_epochs == 1 else 's'}"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the result of a training depends on."""
    try:
        torchvision = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        torchvision = "not installed"
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": torchvision,
    }
