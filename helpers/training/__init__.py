"""Training once and keeping the result.

``set_seed`` and ``pick_device`` prepare a training, ``train_or_restore`` runs it with progress and
checkpoints, and returns a ``History``. ``same_randomness`` leaves the random numbers unchanged.
"""

from helpers.training.checkpoint import Checkpoint, CheckpointError
from helpers.training.device import pick_device
from helpers.training.files import write_atomic
from helpers.training.history import History
from helpers.training.loop import Batches, histories, models, train_or_restore
from helpers.training.randomness import random_state, same_randomness, set_seed

__all__ = [
    "Batches",
    "Checkpoint",
    "CheckpointError",
    "History",
    "histories",
    "models",
    "pick_device",
    "random_state",
    "same_randomness",
    "set_seed",
    "train_or_restore",
    "write_atomic",
]
