"""Training once and keeping the result: progress while it runs, a checkpoint after every epoch.

The training step is the student's own. It is called once per epoch, and two files are kept next to
the notebook: ``<name>.safetensors`` (the weights) and ``<name>.json`` (the history). When the same
line is run again, it restores them within a second.
"""

import math
import numbers
import os
import re
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from helpers.budget import count_parameters
from helpers.training import randomness
from helpers.training.checkpoint import Checkpoint, CheckpointError
from helpers.training.history import History, plural, versions

with warnings.catch_warnings():
    # Without ipywidgets, tqdm warns and then draws its bar as text, which is good enough.
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm

#: Every model that was passed to :func:`train_or_restore`, by name. The autograder finds the models
#: of a notebook here.
models: dict[str, nn.Module] = {}
#: The history of each of them, once it has been trained or restored.
histories: dict[str, History] = {}
#: The models in this process whose weights come from a training, even an interrupted one.
_trained: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class BatchSource(Protocol):
    """What a loader must provide: a loop over batches, and their number."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class Batches:
    """A loader that advances a progress bar; in everything else it is like the loader itself.

    ``len(batches)`` and attributes such as ``batches.dataset`` are those of the loader.
    """

    def __init__(self, loader: BatchSource, bar: Any) -> None:
        self.loader = loader
        self.bar = bar
        #: Position of the bar at the end of the epoch; it does not go beyond it.
        self.epoch_end = 0

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            if self.bar.n < self.epoch_end:
                self.bar.update()

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        # Called only for names that are not found here. An unfinished copy has no "loader" yet.
        if name == "loader":
            raise AttributeError(name)
        return getattr(self.loader, name)


def train_or_restore(
    name: str,
    model: nn.Module,
    train_epoch: Callable[[Batches], float],
    loader: BatchSource,
    n_epochs: int,
    *,
    directory: str | Path = "checkpoints",
    retrain: bool = False,
) -> History:
    """Train ``model`` and keep the result, or restore the result of an earlier training.

    After every epoch, ``<directory>/<name>.safetensors`` and ``<name>.json`` are written, each in
    one step, so stopping at any moment leaves no half-written file. If the kernel is stopped (the
    square button), the last full epoch is kept. The state of the optimizer is not, so the next run
    trains again from the beginning.

    Training starts from the current weights of ``model``: to start again, also run the cells that
    create the model and its optimizer.

    Args:
        name: of the model and its files: letters, digits, ``_`` and ``-``.
        model: what ``train_epoch`` trains.
        train_epoch: makes one pass over the batches it is given, and returns the mean loss.
        loader: the batches; ``train_epoch`` is given them with a progress bar.
        n_epochs: number of passes, at least 1.
        directory: folder of the two files.
        retrain: whether to train even if there is a finished checkpoint.

    Returns:
        The history of this training, or of the restored one.

    Raises:
        ValueError: if ``name`` or ``n_epochs`` is not allowed, or if ``train_epoch`` does not
            return a finite number.
    """
    models[name] = model
    if os.environ.get("LATENT_LAB_WORKER"):
        # The autograder itself loads what was handed in; nothing is trained.
        return History(name)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(
            f"The name of a model should have only letters, digits, '_' and '-', not {name!r}."
        )
    if isinstance(n_epochs, bool) or not isinstance(n_epochs, int) or n_epochs < 1:
        raise ValueError(
            f"n_epochs should be a whole number of at least 1, but it is {n_epochs!r}."
        )

    checkpoint = Checkpoint(Path(directory), name)
    if not retrain:
        try:
            restored = checkpoint.restore(model)
        except CheckpointError as problem:
            print(f"{problem} Training again.")
        else:
            if restored is not None:
                print(describe_restored(restored, checkpoint, n_epochs))
                histories[name] = restored
                _trained.add(model)
                return restored
    if model in _trained:
        print(
            "This model has been trained before, and training continues from its weights. To start "
            "from scratch, run the cells that create the model and its optimizer first."
        )
    histories[name] = train(checkpoint, model, train_epoch, loader, n_epochs)
    return histories[name]


def train(
    checkpoint: Checkpoint,
    model: nn.Module,
    train_epoch: Callable[[Batches], float],
    loader: BatchSource,
    n_epochs: int,
) -> History:
    """Train for ``n_epochs``, with a progress bar and a checkpoint after each epoch."""
    history = History(
        checkpoint.name,
        device=next((p.device.type for p in model.parameters()), "cpu"),
        versions=versions(),
        seed=randomness.last_seed,
    )
    # One bar for all epochs, so that it shows the time left until the end of the training.
    bar = tqdm(total=n_epochs * len(loader), unit="batch")
    batches = Batches(loader, bar)
    saved = 0
    _trained.add(model)
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
            history.n_parameters = count_parameters(model)  # now, when lazy layers have their sizes
            history.trained_at = datetime.now().astimezone().isoformat(timespec="seconds")
            checkpoint.save(model, history, finished=epoch == n_epochs)
            saved = epoch
    except KeyboardInterrupt:
        bar.close()
        # An epoch that was being saved when the kernel was stopped does not count.
        del history.losses[saved:], history.seconds[saved:]
        history.finished = False
        if saved:
            checkpoint.load(model)  # the model as it was at the end of its last full epoch
        print(describe_stopped(checkpoint, history))
        return history
    finally:
        bar.close()
    print(
        f"Trained {history.name!r} in {duration(sum(history.seconds))}: {plural(n_epochs)}, "
        f"last loss {history.losses[-1]:.4g}. Saved as {checkpoint.weights}."
    )
    return history


def as_loss(value: object, epoch: int) -> float:
    """The value returned by ``train_epoch``, as a finite number.

    Raises:
        ValueError: if it is not one; the text gives the likely cause.
    """
    if isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) == 1:
        value = value.item()
    if value is None:
        raise ValueError("Your train_epoch returned None. Return the mean loss of the epoch.")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        kind = f"something of type {type(value).__name__}"
        if isinstance(value, Tensor | np.ndarray):
            kind = f"a tensor of shape {tuple(value.shape)}"
        raise ValueError(
            f"Your train_epoch returned {kind}. Return one number, the mean loss of the epoch."
        )
    loss = float(value)
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss of epoch {epoch} is {loss}: the training has diverged. Try a smaller "
            f"learning rate, and look for a logarithm of zero or a division by zero in your loss."
        )
    return loss


def describe_restored(history: History, checkpoint: Checkpoint, n_epochs: int) -> str:
    """One line about what was restored and how to train again."""
    when = history.trained_at[:16].replace("T", " ")
    epochs = plural(len(history.losses))
    if len(history.losses) != n_epochs:
        epochs += f" (n_epochs is now {n_epochs})"
    return (
        f"Restored {history.name!r}, trained on {when}: {epochs}, last loss "
        f"{history.losses[-1]:.4g}. To train again, delete {checkpoint.weights} and run the cells "
        f"that create the model and its optimizer."
    )


def describe_stopped(checkpoint: Checkpoint, history: History) -> str:
    """One line about what remains of an interrupted training."""
    if not history.losses:
        return (
            f"Stopped {history.name!r} during the first epoch: nothing was saved to "
            f"{checkpoint.weights}, and the model has seen a part of the data."
        )
    return (
        f"Stopped {history.name!r}: the model and {checkpoint.weights} are as they were after "
        f"{plural(len(history.losses))}, loss {history.losses[-1]:.4g}. To train for all epochs, "
        "run the cells that create the model and its optimizer, then this cell again."
    )


def duration(seconds: float) -> str:
    """A length of time, such as ``45 s`` or ``3 min 20 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
