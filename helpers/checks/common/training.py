"""Compares what a student's training loop does and returns with the right training."""

from torch import Tensor

from helpers.checking import (
    Submission,
    agree,
    close,
    expect,
    expect_number,
    fail,
    likely_cause,
)
from helpers.checks.common.declaring import declare
from helpers.checks.common.means import mean_causes, mean_over_images
from helpers.checks.common.misled import misled, misled_condition, unmoved
from helpers.checks.common.trial import MakeTrial, Trial

_STEP_MISTAKES = {
    "no step": "The parameters did not move at all: are loss.backward() and optimizer.step() both "
    "called, and in this order, with zero_grad() before them?",
    "never cleared": "Gradients pile up from batch to batch: call optimizer.zero_grad() before "
    "loss.backward().",
    "cleared once an epoch": "Gradients are cleared once an epoch: call optimizer.zero_grad() for "
    "each batch.",
    "one batch": "Only the first batch was used: is `return` inside the loop?",
    "new optimizer": "A new optimizer was made in each epoch: use the one that you are given.",
}


def expect_mean_loss(trial: Trial) -> None:
    """Fail unless the mean loss over all images is returned; the learning rate must be 0."""
    value = expect_number(trial.epoch(), what=f"What {trial.function} returns")
    losses = trial.batch_losses()
    if len(losses) != len(trial.counts):
        fail("The model was not called once for each batch.", "Is `return` inside the loop?")
    counts = trial.counts
    right, causes = mean_over_images(losses, counts), mean_causes(losses, counts)
    if trial.records:
        causes["The output is compared with what the model was shown, and not with the images."] = (
            mean_over_images(trial.batch_losses(target_is_shown=True), counts)
        )
    for cause, (_, reported) in trial.wrong.items():
        causes[cause] = mean_over_images(trial.batch_losses(reported), counts)
    # Tolerance: float32 sums in another order differ by 1e-6; the wrong means by more than 1e-2.
    if not agree(value, right):
        fail(
            f"{trial.function} returned {value:.5f}; the mean loss over the {len(trial.images)} "
            f"images is {right:.5f}.",
            misled_condition(trial) or likely_cause(value, causes, misled(trial)),
        )
    expect(
        not trial.keeps_graph,
        f"What {trial.function} returns keeps the computation of every batch in memory.",
        "Add up numbers: loss.item(), and not loss.",
    )


def expect_right_steps(trial: Trial, hint: str) -> None:
    """Fail unless two epochs change the parameters as gradient descent does.

    ``hint`` is shown if no known mistake explains the difference.
    """
    for _ in range(2):
        trial.epoch()
    state = trial.model.state()
    if same_state(state, trial.expected(2)):
        return
    for mistake, message in _STEP_MISTAKES.items():
        if same_state(state, trial.expected(2, mistake)):
            fail(message)
    for message, (minimised, _) in trial.wrong.items():
        if same_state(state, trial.expected(2, minimised=minimised)):
            fail(message)
    unmoved(trial, state)
    fail(
        "After two epochs the parameters are not where gradient descent leads.",
        misled(trial) or hint,
    )


def expect_training_mode(trial: Trial) -> None:
    """Fail unless the model is put into training mode even if it was in evaluation mode."""
    trial.model.call("eval")
    trial.epoch()
    modes = trial.training_modes()
    if not modes and not same_state(trial.model.state(), trial.start):
        modes = trial.modes_with_gradients()  # the images are detached on the way to what moves
    expect(bool(modes), "The model was not trained: no gradient was computed through it.")
    expect(
        all(modes),
        "The model was in evaluation mode during the training.",
        f"Call model.train() at the start of {trial.function}.",
    )


def same_state(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two state dicts agree: rounding changes them by 1e-6, each mistake by over 1e-4."""
    return state.keys() == other.keys() and all(close(state[k], other[k], 2e-5) for k in other)


def check_training(
    module: str,
    trial: MakeTrial,
    *,
    points: tuple[float, float],
    lr: float,
    hint: str,
    function: str = "train_epoch",
    returns: str = "the_mean_loss",
    mean_title: str = "train_epoch returns the mean loss over all images of the epoch, as a "
    "number.",
    steps_title: str = "Two epochs of train_epoch move the parameters just as gradient descent "
    "should.",
) -> None:
    """Declare ``train_epoch_returns_the_mean_loss`` and ``train_epoch_makes_the_right_steps``.

    Args:
        module: ``__name__`` of the module that declares them.
        trial: creates the trial from a submission and a learning rate.
        points: of the first and of the second check.
        lr: the learning rate of the second; see :class:`Trial`.
        hint: see :func:`expect_right_steps`.
        function, returns: make up the names of the checks.
        mean_title, steps_title: what students read.
    """

    def mean(submission: Submission) -> None:
        expect_mean_loss(trial(submission, 0.0))

    def steps(submission: Submission) -> None:
        expect_right_steps(trial(submission, lr), hint)

    declare(module, "training", points[0], f"{function}_returns_{returns}", mean_title, mean)
    name = f"{function}_makes_the_right_steps"
    declare(module, "training", points[1], name, steps_title, steps)
