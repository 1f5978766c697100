"""The checks of deliverable 4 that students cannot see."""

from autograder.judging.checks.common import check_test_score, check_training_mode
from helpers.checking import Submission, check, expect
from helpers.checks.common import sampling, vae_model
from helpers.checks.common.vae_model import new_vae
from helpers.checks.d4_cvae import D4, N_CLASSES, findings, some_vectors, trial


@check("architecture", points=3)
def zero_condition_is_a_condition(submission: Submission) -> None:
    """A condition that is all zeros is read like any other, and not taken for none."""
    vae_model.expect_zeros_read(new_vae(submission, N_CLASSES), N_CLASSES)


@check("architecture", points=2)
def sampling_is_as_it_was(submission: Submission) -> None:
    """reparameterize(mu, logvar) still draws afresh from N(mu, exp(logvar)), with its gradients."""
    model = new_vae(submission, N_CLASSES)
    sampling.expect_right_spread(model)
    sampling.expect_fresh_noise(model)
    sampling.expect_sampling_gradients(model)


@check("architecture", points=2)
def gradients_reach_every_parameter(submission: Submission) -> None:
    """Every parameter has a part in the image."""
    vae_model.expect_every_part_used(new_vae(submission, N_CLASSES), some_vectors(5))


check_training_mode(__name__, trial, points=2, lr=0.01)
check_test_score(__name__, findings, points=2, limit=D4["max_test_loss"], unit=" nats per image")


@check("result", points=2)
def handwriting_varies(submission: Submission) -> str:
    """The draws for one digit differ from each other."""
    spread = float(findings(submission).draws.std(dim=1).mean())
    expect(
        spread > 0.08,
        f"The pixels of the draws for one digit vary by {spread:.3f} only.",
        "Does the decoder use its code?",
    )
    return f"The pixels of the draws for one digit vary by {spread:.3f}."
