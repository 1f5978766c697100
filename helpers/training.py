"""Train once, keep the result: progress while it runs, a checkpoint after every epoch.

The training step is the student's own. This file calls it once an epoch, shows how far it is, and
keeps two files beside the notebook: ``<name>.safetensors`` (the weights) and ``<name>.json`` (what
happened). Run again, the same line restores them within a second.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import numbers
import os
import platform
import random
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from helpers.budget import count_parameters

with warnings.catch_warnings():
    # Where ipywidgets is missing, tqdm warns and then draws its bar as text: that is good enough.
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm

__all__ = ["Batches", "History", "models", "pick_device", "set_seed", "train_or_restore"]

#: Every model that was handed to :func:`train_or_restore`, by name: this is where the autograder
#: finds the models of a notebook.
models: dict[str, nn.Module] = {}
#: The history of each of them, once it was trained or restored.
histories: dict[str, History] = {}


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


def pick_device() -> torch.device:
    """The fastest device that is here: ``cuda``, else ``mps`` (Apple), else ``cpu``."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@dataclass
class History:
    """What happened in one training.

    Attributes:
        name: the model's name, also that of its files.
        losses: mean loss of each epoch, as the student's ``train_epoch`` returned it.
        seconds: how long each epoch took.
        n_parameters: trainable parameters of the model.
        device: where the model was: ``cpu``, ``cuda`` or ``mps``.
        versions: of ``python``, ``torch`` and ``torchvision``.
        seed: what ``set_seed`` was last given; None if it was not called.
        trained_at: when the last epoch ended (ISO 8601, with the offset from UTC), or "".
        finished: whether all epochs were done.
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
        """Read what :meth:`to_json` wrote, and nothing else.

        Raises:
            ValueError: with one sentence that names the first thing wrong.
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


class Loader(Protocol):
    """What a loader must offer: batches to loop over, and how many there are."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class Batches:
    """A loader whose batches advance a progress bar; otherwise it is the loader.

    ``len(batches)`` and the attributes (``batches.dataset``, ``batches.batch_size``) are those of
    the loader.
    """

    def __init__(self, loader: Loader, bar: Any) -> None:
        self.loader = loader
        self.bar = bar
        #: Where the bar stands when the epoch ends: it never runs ahead of that.
        self.epoch_end = 0

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            if self.bar.n < self.epoch_end:
                self.bar.update()

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is not found here. "loader" itself is missing in a half-made copy.
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)


def train_or_restore(
    name: str,
    model: nn.Module,
    train_epoch: Callable[[Batches], float],
    loader: Loader,
    n_epochs: int,
    *,
    directory: str | Path = "checkpoints",
    retrain: bool = False,
) -> History:
    """Train ``model`` and keep the result, or restore the result of an earlier training.

    After every epoch ``<directory>/<name>.safetensors`` and ``<name>.json`` are written, each in
    one step, so that stopping at any moment leaves no half-written file. Stopping the kernel (the
    square button) keeps the last full epoch; the optimizer's state is not kept, so the next run
    trains anew.

    Training starts from the weights that ``model`` has: to start afresh, run the cells that build
    the model and its optimizer as well.

    Args:
        name: of the model and its files: letters, digits, ``_`` and ``-``.
        model: what ``train_epoch`` trains.
        train_epoch: makes one pass over the batches that it is given, and returns the mean loss.
        loader: the batches, in memory or from disk; ``train_epoch`` gets it with a progress bar.
        n_epochs: how many passes to make, at least 1.
        directory: where the files are kept.
        retrain: train even where there is a finished checkpoint.

    Returns:
        The history of this training, or of the one restored.

    Raises:
        ValueError: for a bad ``name`` or ``n_epochs``, or when ``train_epoch`` returns something
            that is not a finite number.
    """
    models[name] = model
    if os.environ.get("LATENT_LAB_WORKER"):
        # The autograder loads what was handed in by itself: it never trains here.
        return History(name)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"The name {name!r} should have only letters, digits, '_' and '-'.")
    if isinstance(n_epochs, bool) or not isinstance(n_epochs, int) or n_epochs < 1:
        raise ValueError(f"n_epochs should be a whole number of at least 1, not {n_epochs!r}.")

    checkpoint = Checkpoint(Path(directory), name)
    if not retrain:
        try:
            restored = checkpoint.restore(model)
        except CheckpointError as problem:
            print(f"{problem} Training anew.")
        else:
            if restored is not None:
                print(describe_restored(restored, checkpoint, n_epochs))
                histories[name] = restored
                return restored
    histories[name] = train(checkpoint, model, train_epoch, loader, n_epochs)
    return histories[name]


def train(
    checkpoint: Checkpoint,
    model: nn.Module,
    train_epoch: Callable[[Batches], float],
    loader: Loader,
    n_epochs: int,
) -> History:
    """The training itself: epochs, progress, a checkpoint after each of them."""
    history = History(
        checkpoint.name,
        device=next((p.device.type for p in model.parameters()), "cpu"),
        versions=versions(),
        seed=last_seed,
    )
    # One bar for all epochs, so that the time left is the time until the training ends.
    bar = tqdm(total=n_epochs * len(loader), unit="batch")
    batches = Batches(loader, bar)
    saved = 0
    try:
        for epoch in range(1, n_epochs + 1):
            bar.set_description(f"epoch {epoch}/{n_epochs}")
            batches.epoch_end = epoch * len(loader)
            start = time.perf_counter()
            loss = as_loss(train_epoch(batches), epoch)
            bar.update(batches.epoch_end - bar.n)  # if train_epoch left its loop early
            bar.set_postfix(loss=f"{loss:.4g}")
            history.losses.append(loss)
            history.seconds.append(round(time.perf_counter() - start, 3))
            history.n_parameters = count_parameters(model)  # now that lazy layers have their size
            history.trained_at = datetime.now().astimezone().isoformat(timespec="seconds")
            checkpoint.save(model, history, finished=epoch == n_epochs)
            saved = epoch
    except KeyboardInterrupt:
        bar.close()
        # Stopped while an epoch was being saved: that one does not count.
        del history.losses[saved:], history.seconds[saved:]
        history.finished = False
        if saved:
            checkpoint.load(model)  # the model goes back to the end of its last full epoch
        print(describe_stopped(checkpoint, history))
        return history
    finally:
        bar.close()
    print(
        f"Trained {history.name!r} in {duration(sum(history.seconds))}: {plural(n_epochs)}, "
        f"last loss {history.losses[-1]:.4g}. Saved as {checkpoint.weights}."
    )
    return history


class CheckpointError(Exception):
    """A checkpoint cannot be restored; the text says why in one sentence."""


class Checkpoint:
    """The two files of one trained model.

    A history that says ``finished`` always belongs to the weights beside it: it is marked
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
        write(self.history, history.to_json().encode())
        write(self.weights, safetensors.torch.save(state))
        if finished:
            history.finished = True
            write(self.history, history.to_json().encode())

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


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content`` in one step: a reader sees all of it or nothing.

    Args:
        mode: the file's permissions; by default everyone on the machine may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:  # also when the student stops the kernel just now
        Path(temporary).unlink(missing_ok=True)
        raise


def as_loss(value: object, epoch: int) -> float:
    """What ``train_epoch`` returned, as a finite number.

    Raises:
        ValueError: with the likely cause.
    """
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) == 1:
        value = value.item()
    if value is None:
        raise ValueError("Your train_epoch returned None: return the mean loss of the epoch.")
    if isinstance(value, Tensor | np.ndarray):
        raise ValueError(
            f"Your train_epoch returned a tensor of shape {tuple(value.shape)}: return one number, "
            f"the mean loss of the epoch."
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(
            f"Your train_epoch returned something of type {type(value).__name__}: return one "
            f"number, the mean loss of the epoch."
        )
    loss = float(value)
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss of epoch {epoch} is {loss}: the training has diverged. Try a smaller "
            f"learning rate, and look for a logarithm or a division of zero in your loss."
        )
    return loss


def describe_restored(history: History, checkpoint: Checkpoint, n_epochs: int) -> str:
    """One line on what was restored, and how to train again."""
    when = history.trained_at[:16].replace("T", " ")
    epochs = plural(len(history.losses))
    if len(history.losses) != n_epochs:
        epochs += f" (n_epochs is now {n_epochs})"
    return (
        f"Restored {history.name!r}, trained on {when}: {epochs}, last loss "
        f"{history.losses[-1]:.4g}. To train again, delete "
        f"{checkpoint.weights}."
    )


def describe_stopped(checkpoint: Checkpoint, history: History) -> str:
    """One line on what an interrupted training leaves."""
    if not history.losses:
        return (
            f"Stopped {history.name!r} within the first epoch: nothing was written to "
            f"{checkpoint.weights}, and the model is half-way through the epoch."
        )
    return (
        f"Stopped {history.name!r}: the model and {checkpoint.weights} are as they were after "
        f"{plural(len(history.losses))}, loss {history.losses[-1]:.4g}. The next run trains anew."
    )


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    try:
        torchvision = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        torchvision = "not installed"
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": torchvision,
    }


def duration(seconds: float) -> str:
    """A length of time as people say it: ``45 s``, ``3 min 20 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plural(n_epochs: int) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{n_epochs} epoch{'' if n_epochs == 1 else 's'}"


def is_finite_list(value: object) -> bool:
    """Whether ``value`` is a list of finite numbers. A bool is no number here."""
    return isinstance(value, list) and all(
        # The bound comes first: a whole number in JSON may be too large for a float.
        type(item) in (int, float) and abs(item) < 1e300
        for item in value
    )


def is_time(value: object) -> bool:
    """Whether ``value`` is "" or a time in ISO 8601."""
    try:
        return isinstance(value, str) and (not value or bool(datetime.fromisoformat(value)))
    except ValueError:
        return False


#: What each entry of a history must be: a test, and the words for it.
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
