"""Work that leaves the random numbers of others alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["random_state", "same_randomness"]


def random_state() -> tuple[Any, ...]:
    """The states of Python's, NumPy's and torch's random numbers on the CPU, to be compared."""
    numpy: Any = np.random.get_state()
    torchs = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), numpy[1].tobytes(), *numpy[2:], torchs


@contextmanager
def same_randomness() -> Iterator[None]:
    """Leave the state of every random number generator as it was: Python's, NumPy's and torch's."""
    python, numpy = random.getstate(), np.random.get_state()
    # All GPUs by name: left to itself, torch warns where there are two, as on Kaggle.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else None
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
