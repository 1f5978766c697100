"""The checks of deliverable 8 that students cannot see."""

from autograder.judging.checks.common import check_training_mode
from helpers.checking import Submission, check, expect
from helpers.checks.d8_conv_vae.model import D8, trial
from helpers.checks.d8_conv_vae.result import learned

check_training_mode(__name__, trial, points=2, lr=0.01)


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
