"""The checks of deliverable 10 that students do not see."""

from autograder.judging.checks.common import check_training_mode
from helpers.checking import Submission, check, expect
from helpers.checks.d10_sd_vae.networks import expect_settings
from helpers.checks.d10_sd_vae.probing import D10
from helpers.checks.d10_sd_vae.result import findings
from helpers.checks.d10_sd_vae.training import new_trial


@check("networks", points=1)
def encoder_has_the_right_settings(submission: Submission) -> None:
    """Encoder's last normalisation and its convolutions have the settings of the text."""
    expect_settings(submission, "Encoder")


@check("networks", points=1)
def decoder_has_the_right_settings(submission: Submission) -> None:
    """Decoder's last normalisation and its convolutions have the settings of the text."""
    expect_settings(submission, "Decoder")


check_training_mode(__name__, new_trial, points=1, lr=0.1)


@check("result", points=3)
def test_loss_is_low(submission: Submission) -> str:
    """The model paints new photographs, too, clearly better than the mean image would."""
    found = findings(submission)
    limit = D10["max_test_loss"]
    expect(
        found.test < limit,
        f"Test loss {found.test:.3f} (training {found.training:.3f}); it must be below {limit:g}.",
    )
    return f"Test loss {found.test:.3f}, training {found.training:.3f}."
