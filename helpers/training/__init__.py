"""Training once and keeping the result: progress, checkpoints, histories, random numbers."""

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
