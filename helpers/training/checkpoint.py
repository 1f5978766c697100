"""The two files of a trained model: its weights and its history."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from helpers.training.files import write_atomic
from helpers.training.history import History, plural


class CheckpointError(Exception):
    """A checkpoint cannot be restored; the text says why in one sentence."""


class Checkpoint:
    """The two files of one trained model.

    A history that says ``finished`` always belongs to the weights next to it: it is marked
    unfinished before they are replaced, and finished only after.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.weights = directory / f"{name}.safetensors"
        self.history = directory / f"{name}.json"

    def save(self, model: nn.Module, history: History, *, finished: bool) -> None:
        """Write both files; ``history.finished`` becomes ``finished`` at the end."""
        # Every tensor is copied, since safetensors refuses two names for the same memory (tied
        # weights), and whoever loads the file should find both names.
        state = {
            key: value.detach().cpu().contiguous().clone()
            for key, value in model.state_dict().items()
        }
        write_atomic(self.history, history.to_json().encode())
        write_atomic(self.weights, safetensors.torch.save(state))
        if finished:
            history.finished = True
            write_atomic(self.history, history.to_json().encode())

    def load(self, model: nn.Module) -> None:
        """Copy the saved weights into ``model``, all of them or none.

        Raises:
            CheckpointError: if the file is damaged or made for another architecture.
        """
        try:
            state = safetensors.torch.load(self.weights.read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError):
            raise CheckpointError(f"The checkpoint {self.weights} is damaged.") from None
        difference = first_difference(state, model.state_dict())
        if difference:
            raise CheckpointError(
                f"The checkpoint {self.weights} does not fit this model ({difference})."
            )
        model.load_state_dict(state, strict=True)

    def restore(self, model: nn.Module) -> History | None:
        """Load a finished training into ``model``; None where there is nothing at all.

        Raises:
            CheckpointError: if what is there cannot be used.
        """
        if not self.weights.exists() and not self.history.exists():
            return None
        try:
            history = History.from_json(self.history.read_bytes())
        except OSError:
            raise CheckpointError(
                f"The checkpoint {self.weights} has no history {self.history} that can be read."
            ) from None
        except ValueError as error:
            raise CheckpointError(f"{self.history}: {error}") from None
        if not history.finished:
            raise CheckpointError(
                f"The earlier training of {self.name!r} was stopped after "
                f"{plural(len(history.losses))}, and its optimizer's state is gone."
            )
        self.load(model)
        return history


def first_difference(saved: dict[str, Tensor], wanted: dict[str, Tensor]) -> str:
    """The first tensor in which two state dicts differ by name or shape, in words; "" if none."""
    for key, tensor in wanted.items():
        if key not in saved:
            return f"it has no {key!r}"
        # A lazy layer has no shape yet: it takes that of the file.
        if not is_lazy(tensor) and saved[key].shape != tensor.shape:
            return (
                f"{key!r} has shape {tuple(saved[key].shape)} there, "
                f"{tuple(tensor.shape)} in the model"
            )
    return next((f"the model has no {key!r}" for key in saved if key not in wanted), "")
