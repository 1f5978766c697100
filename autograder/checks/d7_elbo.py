"""The checks of deliverable 7 that students do not see."""

from __future__ import annotations

from helpers.check import check
from helpers.checks.d7_elbo import D7, findings, trial
from helpers.checks.trial import expect_training_mode
from helpers.expect import expect
from helpers.submission import Submission


@check("training", points=0.25)
def model_is_in_training_mode(submission: Submission) -> None:
    """train_epoch trains with the model in training mode, whatever mode it was in before."""
    expect_training_mode(trial(submission, lr=0.01))


@check("result", points=1)
def test_loss_is_close_to_training_loss(submission: Submission) -> str:
    """The model does on new images nearly what it does on those it was trained on."""
    found = findings(submission)
    limit = 1.05 * D7.max_loss
    expect(
        found.test < limit,
        f"Test loss {found.test:.1f} (training {found.training:.1f}); it must be below "
        f"{limit:.1f}.",
    )
    return f"Test loss {found.test:.1f}, training {found.training:.1f} nats per image."
