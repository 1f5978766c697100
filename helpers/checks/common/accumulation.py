"""A student's training loop that gathers gradients over several batches, tried out."""

import math
from typing import Any

import torch
from torch import Tensor

from helpers.checking import Submission, expect, expect_number, fail
from helpers.checks.common.trial import Trial, mean_over_images, same_state, tiny_vae_loss

State = dict[str, Tensor]


class AccumulatingTrial(Trial):
    """A student's train_epoch that gathers gradients over several batches.

    Three batches of 5, 5 and 3 images: with two to a group, the second group is not full.
    """

    def __init__(self, submission: Submission, lr: float, n_accumulated: int) -> None:
        super().__init__(
            submission,
            lr,
            model="TinyVAE",
            criterion="helpers.checks.common.tiny.TinyLoss",
            loss=tiny_vae_loss,
        )
        self.n_accumulated = n_accumulated

    def _run(self) -> Any:
        device = self._submission.build("torch.device", "cpu")
        arguments = (*self._arguments, device, self.n_accumulated)
        return self._submission.call(self.function, self.model, *arguments)

    def accumulated(self, n_epochs: int, mistake: str = "") -> State:
        """The parameters after ``n_epochs``, trained here, perhaps with a mistake."""
        model = self._restarted()
        sgd = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)
        batches, size = self._batches(), self.n_accumulated
        for _ in range(n_epochs):
            if mistake != "left over":
                sgd.zero_grad()
            for number, batch in enumerate(batches, start=1):
                group = min(size, len(batches) - (number - 1) // size * size)
                divisor = {"not divided": 1, "own size": group}.get(mistake, size)
                (self._loss(model, *batch) / divisor).backward()
                due = number % size == 0
                if mistake not in ("left over", "dropped"):
                    due = due or number == len(batches)
                if mistake == "each batch" or (mistake == "one late" and number % size == 1):
                    due = True
                if due and mistake != "no step":
                    sgd.step()
                if (due and mistake != "never cleared") or mistake == "cleared":
                    sgd.zero_grad()
        return model.state_dict()

    def moved_like(self, state: State, n_epochs: int, mistake: str = "") -> bool:
        """Whether the parameters are those after ``n_epochs`` with a mistake."""
        return same_state(state, self.accumulated(n_epochs, mistake))


_MISTAKES = {
    "no step": "The parameters did not move at all: is optimizer.step() called?",
    "left over": "The last group of an epoch, which is not full, gets no update of its own: step "
    "at the last batch, too.",
    "dropped": "The last group of an epoch, which is not full, is dropped: step at the last batch, "
    "too.",
    "not divided": "Each batch's loss should be divided by accumulation_steps.",
    "each batch": "There is an update after every batch: only every accumulation_steps-th is due.",
    "cleared": "Gradients are cleared after every batch, so nothing gathers: clear them after an "
    "update only.",
    "never cleared": "Gradients pile up from group to group: call optimizer.zero_grad() after "
    "optimizer.step().",
    "one late": "Updates come a batch too early: count the batches from 1.",
}


def expect_undivided_loss(trial: AccumulatingTrial) -> None:
    """Fail if train_epoch returns the mean loss divided by the batches in a group.

    Args:
        trial: with a learning rate of 0, so that the mean is known beforehand.
    """
    found = expect_number(trial.epoch(), what="What train_epoch returns")
    right = mean_over_images(trial.batch_losses(), trial.counts)
    expect(
        not math.isclose(found, right / trial.n_accumulated, rel_tol=1e-4),
        "What train_epoch returns is divided by accumulation_steps.",
        "Divide only what is differentiated.",
    )


def expect_group_updates(trial: AccumulatingTrial) -> None:
    """Fail unless two epochs move the parameters by one update for each group of batches."""
    for _ in range(2):
        trial.epoch()
    state = trial.model.state()
    # A group that is not full may also be divided by its own size.
    if trial.moved_like(state, 2) or trial.moved_like(state, 2, "own size"):
        return
    for mistake, message in _MISTAKES.items():
        if trial.moved_like(state, 2, mistake):
            fail(message)
    fail(
        f"With accumulation_steps = {trial.n_accumulated} and three batches, the parameters are "
        "not where gradient descent leads.",
        "backward for each batch; step and zero_grad for each group.",
    )
