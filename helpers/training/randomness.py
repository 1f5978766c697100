"""Random numbers: seeding all generators, and restoring their states."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> tuple[Any, ...]:
    """The states of the random number generators of Python, NumPy and torch (CPU), to compare."""
    numpy: Any = np.random.get_state()
    torchs = torch.get_rng_state().numpy().tobytes()
    return random.getstate(), numpy[1].tobytes(), *numpy[2:], torchs


@contextmanager
def same_randomness() -> Iterator[None]:
    """Restore the random number generators of Python, NumPy and torch at the end of the block."""
    python, numpy = random.getstate(), np.random.get_state()
    # All GPUs, explicitly: by default, torch warns if there are several, as on Kaggle.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else None
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def set_seed(seed: int) -> None:
    """Seed the random number generators of Python, NumPy and torch.

    The same seed on the same machine gives the same training; other hardware rounds differently.

    Args:
        seed: 0 to 2**32 - 1.

    Raises:
        ValueError: if the seed is out of range.
    """
    global last_seed
    np.random.seed(seed)  # first, since it refuses a seed out of range
    random.seed(seed)
    torch.manual_seed(seed)  # the CPU and the current GPU...
    torch.cuda.manual_seed_all(seed)  # ...and all other GPUs; without a GPU, it does nothing
    last_seed = seed


#: The last seed given to :func:`set_seed`; it is stored in the history.
last_seed: int | None = None
