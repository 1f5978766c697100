"""The checks of deliverable 8 that students do not see."""

from __future__ import annotations

from helpers.check import check
from helpers.checks.d8_conv_vae import D8, learned, trial
from helpers.checks.trial import expect_training_mode
from helpers.expect import expect
from helpers.submission import Submission


@check("training", points=2)
def model_is_in_training_mode(submission: Submission) -> None:
    """train_epoch trains with the model in training mode, whatever mode it was in before."""
    expect_training_mode(trial(submission, lr=0.01))


@check("result", points=3)
def test_loss_is_close_to_training_loss(submission: Submission) -> str:
    """The model does on new images nearly what it does on those it was trained on."""
    found = learned(submission)
    expect(
        found.test - found.training <= D8["max_gap"],
        f"Test loss {found.test:.1f}, training {found.training:.1f}: at most {D8['max_gap']:g} "
        "nats should lie between.",
    )
    return f"Test loss {found.test:.1f}, training {found.training:.1f} nats per image."
