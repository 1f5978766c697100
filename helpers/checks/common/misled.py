"""What a student's training loop gave the model and the loss in a trial, if that was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from helpers.checking import Object, StudentError, close, fail
from helpers.checks.common.conduct import recorded

if TYPE_CHECKING:
    from helpers.checks.common.trial import Trial


def misled(trial: Trial) -> str:
    """What else than it should the model or the loss was given in the training, or ""."""
    moved = any(not close(trial.start.get(k, v), v, 1e-6) for k, v in trial.model.state().items())
    if moved and not recorded(trial.optimizer, "rates"):
        return f"{trial.function} does not use the optimizer that it is given."
    if not recorded(trial.model, "recorder.inputs"):
        return f"{trial.function} does not use the model that it is given."
    images = trial.images.split(trial.batch_size)
    if not trial.records and (sentence := _left_out(trial.shown(), images)):
        return sentence
    if sentence := misled_condition(trial):
        return sentence
    sees_images = trial.condition is None or trial.condition_recorder != "recorder"
    if sees_images and not trial.records:
        for x, its_images in zip(trial.shown(), images, strict=False):
            if not _same(x, its_images):
                return "The model is not given the images as they come from the loader."
    return _misled_loss(trial, images) if trial.loss_records else ""


def misled_condition(trial: Trial) -> str:
    """What the model is not given besides the images, or ""."""
    if trial.condition is None:
        return ""
    images, labels = trial.images.split(trial.batch_size), trial.labels.split(trial.batch_size)
    shown = trial.trained_on(trial.condition_recorder)
    for x, its_images, its_labels in zip(shown, images, labels, strict=False):
        if not close(x, trial.condition(its_images, its_labels)):
            return f"The model is not given {trial.condition_text} of each batch."
    return ""


def _left_out(shown: Sequence[Tensor], images: Sequence[Tensor]) -> str:
    """Which batch the model is never trained on, though on others as they are, or ""."""
    if not shown or not all(any(_same(x, batch) for batch in images) for x in shown):
        return ""
    for number, batch in enumerate(images, 1):
        if not any(_same(x, batch) for x in shown):
            return f"Batch {number} of {len(images)} has no part in the training: use each of them."
    return ""


def unmoved(trial: Trial, state: dict[str, Tensor]) -> None:
    """Fail if some of the parameters never move that should, or all in another measure."""
    right = trial.expected(2)
    if state.keys() != right.keys():
        return

    def moves(to: dict[str, Tensor]) -> set[str]:
        return {name for name in right if not close(to[name], trial.start[name], 0.0)}

    still = sorted(moves(right) - moves(state))
    if still and moves(state):
        fail(
            f"These parameters never move: {', '.join(still)}.",
            "Something cuts them off from the loss, or clears their gradients before the step.",
        )
    steps = {
        "The steps lead uphill: the loss should be minimised.": -1.0,
        "The gradients are twice as large as they should be: is backward() called twice, or the "
        "loss multiplied?": 2.0,
        "The gradients are half as large as they should be: is the loss divided?": 0.5,
    }
    for message, factor in steps.items():
        if all(close(state[name], value, 2e-5) for name, value in trial.scaled(factor).items()):
            fail(message)


def _misled_loss(trial: Trial, images: Sequence[Tensor]) -> str:
    """What else than it should the loss was given, or ""."""
    given = _tensors_of(trial.criterion, "given")
    images_at = trial.criterion.get("images_at")
    place = 0 if isinstance(images_at, int) and images_at == 0 else 1
    if not given:
        return f"{trial.function} does not use the loss that it is given."
    for batch in images:
        if not any(_same(call[place], batch) for call in given):
            return "The loss is not given the images of each batch, as they are."
    returned = _tensors_of(trial.model, "returned")
    outputs = {1 - place: "reconstructions", 2: "means", 3: "log variances"}
    for output, (argument, name) in enumerate(outputs.items()):
        calls = [call[argument] for call in given if len(call) > argument]
        if returned and not all(any(_same(x, made[output]) for made in returned) for x in calls):
            return f"The loss is not given the {name} that the model returned."
    return ""


def _same(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in whatever shape."""
    return close(tensor.reshape(-1), other.reshape(-1))


def _tensors_of(recorder: Object, name: str) -> list[list[Tensor]]:
    """What a model or a loss of the kit recorded, call by call; [] if it records nothing."""
    try:
        calls = recorded(recorder, name)
    except StudentError:
        return []
    return [
        call
        for call in calls
        if isinstance(call, list) and len(call) > 1 and all(isinstance(t, Tensor) for t in call)
    ]
