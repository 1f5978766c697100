"""The checks of deliverable 5 that students cannot see."""

import torch

from autograder.judging.checks.common import check_test_score
from helpers.checking import StudentError, Submission, check, expect, fail
from helpers.checks.common import sampling, vae_model, vae_parts
from helpers.checks.common.architecture import expect_all_used
from helpers.checks.common.training import expect_training_mode
from helpers.checks.common.vae_model import new_vae
from helpers.checks.d5_structured_prediction import (
    D5,
    QUARTER_DIM,
    baseline_trial,
    findings,
    new_baseline,
    predicted,
    some_quarters,
    trial,
)


@check("architecture", points=2)
def zero_condition_is_a_condition(submission: Submission) -> None:
    """A quarter that is all black is read like any other, and not taken for none."""
    vae_model.expect_zeros_read(new_vae(submission, QUARTER_DIM), QUARTER_DIM)


@check("architecture", points=2)
def the_class_takes_labels_too(submission: Submission) -> None:
    """The class is still that of the last deliverable: it takes conditions of any length."""
    model = new_vae(submission, 10)
    try:
        vae_parts.expect_encoder_shapes(model, lambda n_images: torch.eye(10)[:n_images])
        vae_parts.expect_decoder_shapes(model, lambda n_images: torch.eye(10)[:n_images])
    except StudentError as error:
        if error.kind != "error":
            raise
        fail(
            f"With conditional_vec_dim=10, the class does not work ({error.message}).",
            "Compute the sizes of its layers from conditional_vec_dim.",
        )


@check("architecture", points=1)
def sampling_is_as_it_was(submission: Submission) -> None:
    """reparameterize(mu, logvar) still draws N(mu, exp(logvar)), each number with new noise."""
    model = new_vae(submission, QUARTER_DIM)
    sampling.expect_right_spread(model)
    sampling.expect_fresh_noise(model)
    sampling.expect_sampling_gradients(model)


@check("baseline_network", points=2)
def baseline_uses_all_of_itself(submission: Submission) -> None:
    """Every parameter of the baseline has a part in its image."""
    model, quarters = new_baseline(submission), some_quarters(5)
    predicted(model, quarters)
    answer = model.differentiate("", quarters)
    expect_all_used(answer.parameters)


@check("architecture", points=1)
def gradients_reach_every_parameter(submission: Submission) -> None:
    """Every parameter has a part in the image."""
    vae_model.expect_every_part_used(new_vae(submission, QUARTER_DIM), some_quarters(5))


@check("training", points=2)
def models_are_in_training_mode(submission: Submission) -> None:
    """Both functions train in training mode, whatever mode the model was in before."""
    expect_training_mode(trial(submission, lr=0.01))
    expect_training_mode(baseline_trial(submission, lr=0.01))


check_test_score(__name__, findings, points=2, limit=D5["max_test_loss"], unit=" nats per image")


@check("result", points=2)
def answers_differ(submission: Submission) -> str:
    """The hidden part differs from draw to draw."""
    spread = findings(submission).spread
    expect(spread > 0.03, f"The hidden pixels vary by {spread:.3f} only from draw to draw.")
    return f"The hidden pixels vary by {spread:.3f} from draw to draw."
