"""Random numbers: seeding all sources, and leaving their state as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


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


def set_seed(seed: int) -> None:
    """Start the random numbers of Python, NumPy and torch from ``seed``, 0 to 2**32 - 1.

    The same seed on the same machine gives the same training; other hardware rounds differently.
    """
    global last_seed
    np.random.seed(seed)  # first, since it is the one that refuses a seed out of range
    random.seed(seed)
    torch.manual_seed(seed)  # the CPU and the current GPU...
    torch.cuda.manual_seed_all(seed)  # ...and every further GPU; without a GPU it does nothing
    last_seed = seed


#: What :func:`set_seed` was last given; it goes into the history.
last_seed: int | None = None
