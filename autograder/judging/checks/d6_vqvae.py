"""The checks of deliverable 6 that students do not see."""

from autograder.judging.checks.common import check_training_mode
from helpers.checking import Submission, check, expect
from helpers.checks.d6_vqvae.model import trial
from helpers.checks.d6_vqvae.result import D6, findings

check_training_mode(__name__, trial, points=2, lr=0.1)


@check("result", points=3)
def test_error_is_close_to_training_error(submission: Submission) -> str:
    """The model does on new images nearly what it does on those it was trained on."""
    found = findings(submission)
    limit = (1 + D6["test_allowance"] / 100) * found.size.max_loss
    expect(
        found.test < limit,
        f"Test error {found.test:.3f} (training {found.training:.3f}); it must be below "
        f"{limit:.3f}.",
    )
    return f"Test error {found.test:.3f}, training {found.training:.3f}."
