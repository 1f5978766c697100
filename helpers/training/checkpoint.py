"""The two files of a trained model: weights and history."""

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

    A history with ``finished`` set always belongs to the weights next to it: it is marked as
    unfinished before they are replaced, and as finished only afterwards.

    Args:
        directory: the folder of both files.
        name: of the model; the files are ``<name>.safetensors`` and ``<name>.json``.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.weights = directory / f"{name}.safetensors"
        self.history = directory / f"{name}.json"

    def save(self, model: nn.Module, history: History, *, finished: bool) -> None:
        """Write both files; at the end, ``history.finished`` is set if ``finished``."""
        # Every tensor is copied: safetensors refuses two names for the same memory (tied weights),
        # but the file should contain both names.
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
        """Copy the saved weights into ``model``, either all of them or none.

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
        """Load the result of a finished training into ``model``; None if there is none.

        Raises:
            CheckpointError: if there are files that cannot be used.
        """
        if not self.weights.exists() and not self.history.exists():
            return None
        try:
            history = History.from_json(self.history.read_bytes())
        except OSError:
            raise CheckpointError(
                f"The history {self.history} of the checkpoint {self.weights} cannot be read."
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
    """The first difference in names or shapes between two state dicts, in words; "" if none."""
    for key, tensor in wanted.items():
        if key not in saved:
            return f"it has no {key!r}"
        # A lazy layer has no shape yet, and takes that of the file.
        if not is_lazy(tensor) and saved[key].shape != tensor.shape:
            return (
                f"{key!r} has shape {tuple(saved[key].shape)} there, "
                f"{tuple(tensor.shape)} in the model"
            )
    return next((f"the model has no {key!r}" for key in saved if key not in wanted), "")
