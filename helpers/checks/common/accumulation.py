"""A student's training loop that gathers gradients over several batches, tried out."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from helpers.checking import Submission, expect, expect_number, fail
from helpers.checks.common.means import mean_over_images
from helpers.checks.common.training import same_state
from helpers.checks.common.trial import EXCHANGED, BatchLoss, Trial, tiny_vae_loss

State = dict[str, Tensor]


class AccumulatingTrial(Trial):
    """A student's train_epoch that gathers gradients over several batches.

    Three batches of 5, 5 and 3 images: with two to a group, the second group is not full.
    """

    def __init__(self, submission: Submission, lr: float, n_accumulated: int) -> None:
        swapped = partial(tiny_vae_loss, swapped=True)
        super().__init__(
            submission,
            lr,
            model="TinyVAE",
            criterion="helpers.checks.common.tiny.TinyLossOfMeans",
            loss=tiny_vae_loss,
            wrong={EXCHANGED: (swapped, swapped)},
        )
        self.n_accumulated = n_accumulated
        self.more_arguments = (n_accumulated,)

    @property
    def program(self) -> str:
        """What an epoch of three batches does: "b" for backward, "s" for step, "z" for zero."""
        return {1: "bszbszbsz", 2: "bbszbsz", 3: "bbbsz"}[self.n_accumulated]

    @property
    def group_sizes(self) -> list[int]:
        """For each batch, how many there are in its group."""
        groups = [len(group) for group in self.program.replace("z", "").split("s") if group]
        return [size for size in groups for _ in range(size)]

    def followed(
        self, programs: str, divisors: Sequence[float], loss: BatchLoss | None = None
    ) -> State:
        """The parameters after two epochs, or more.

        Args:
            programs: of each epoch, with spaces between.
            divisors: of the loss of each batch.
            loss: another one than the trial's.
        """
        model, loss = self._restarted(), loss or self._loss
        sgd = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)
        rates = iter(self.rates())
        actions = {"s": sgd.step, "z": sgd.zero_grad}
        for program in programs.split():
            batches = zip(self._batches(), divisors, strict=False)
            for letter in program:
                if letter != "b":
                    sgd.param_groups[0]["lr"] = next(rates, self.lr) if letter == "s" else self.lr
                    actions[letter]()
                    continue
                batch, divisor = next(batches)
                (loss(model, *batch) / divisor).backward()
        return model.state_dict()


#: Wrong programs of two epochs with three batches and two to a group, by what is wrong.
_MISTAKES = {
    "The last group of an epoch, which is not full, gets no update of its own: step at the last "
    "batch, too.": "bbszb bszbb",
    "The last group of an epoch, which is not full, is dropped: step at the last batch, too.": (
        "bbszbz bbszbz"
    ),
    "There is an update after every batch: only every accumulation_steps-th is due.": (
        "bszbszbsz bszbszbsz"
    ),
    "Only the last batch of each group has a part in the update: call backward for each batch, and "
    "clear the gradients only after an update.": "bzbszbsz bzbszbsz",
    "Gradients pile up from group to group: call optimizer.zero_grad() after optimizer.step().": (
        "bbsbs zbbsbs"
    ),
    "Gradients pile up from group to group and from epoch to epoch: call optimizer.zero_grad() "
    "after optimizer.step().": "bbsbs bbsbs",
    "Updates come a batch too early: count the batches from 1.": "bszbbsz bszbbsz",
    "Updates come a batch too early, and the last group gets none of its own: count the batches "
    "from 1, and step at the last one, too.": "bszbb zbszbb",
    "There is one update, at the end of the epoch: every accumulation_steps batches one is due.": (
        "bbbsz bbbsz"
    ),
}


def expect_undivided_loss(trial: AccumulatingTrial) -> None:
    """Fail if train_epoch returns the mean loss divided by the batches in a group.

    Args:
        trial: with a learning rate of 0, so that the mean is known beforehand.
    """
    found = expect_number(trial.epoch(), what="What train_epoch returns")
    right = mean_over_images(trial.batch_losses(), trial.counts)
    n = trial.n_accumulated
    for value in (right / n, float(trial.batch_losses().mean()) / n):
        expect(
            not math.isclose(found, value, rel_tol=1e-4),
            "What train_epoch returns is divided by accumulation_steps.",
            "Divide only what is differentiated.",
        )


def expect_group_updates(trial: AccumulatingTrial) -> None:
    """Fail unless two epochs move the parameters by one update for each group of batches."""
    for _ in range(2):
        trial.epoch()
    state, n = trial.model.state(), trial.n_accumulated
    epochs, equal = f"{trial.program} {trial.program}", (n, n, n)

    def moved_like(
        programs: str, divisors: Sequence[float] = equal, loss: BatchLoss | None = None
    ) -> bool:
        return same_state(state, trial.followed(programs, divisors, loss))

    # A group that is not full may also be divided by its own size.
    if moved_like(epochs) or moved_like(epochs, trial.group_sizes):
        return
    if moved_like(""):
        hint = "is optimizer.step() called?"
        if trial.rates():
            hint = "optimizer.step() finds no gradients. Are they cleared before it?"
        fail(f"The parameters did not move at all: {hint}")
    if moved_like(epochs, (1, 1, 1)):
        fail("Each batch's loss should be divided by accumulation_steps.")
    if moved_like(epochs, (3, 3, 3)):
        fail("Each batch's loss is divided by the batches of an epoch, not by accumulation_steps.")
    if moved_like(epochs, [n * count for count in trial.counts.tolist()]):
        fail("Each batch's loss, which is a mean already, is divided by its number of images.")
    for message, (wrong, _) in trial.wrong.items():
        if moved_like(epochs, loss=wrong):
            fail(message)
    for message, programs in _MISTAKES.items() if n == 2 else ():
        if moved_like(programs):
            fail(message)
        if moved_like(programs, (1, 1, 1)):
            fail(message, "Each batch's loss should be divided by accumulation_steps, too.")
    fail(
        f"With accumulation_steps = {n} and three batches, the parameters are not where gradient "
        "descent leads.",
        "backward for each batch; step and zero_grad for each group.",
    )
