"""The checks of deliverable 4 that students do not see."""

from __future__ import annotations

import torch

from helpers.check import check
from helpers.checks import vae
from helpers.checks.d4_cvae import D4, N_CLASSES, findings, some_vectors, trial
from helpers.checks.trial import expect_training_mode
from helpers.checks.vae import new_vae
from helpers.expect import expect
from helpers.submission import Submission


@check("architecture", points=3)
def zero_condition_is_a_condition(submission: Submission) -> None:
    """A condition that is all zeros is read like any other, and not taken for none."""
    model, zeros = new_vae(submission, N_CLASSES), torch.zeros(5, N_CLASSES)
    vae.expect_forward_parameters(model, zeros)
    vae.expect_forward_decodes(model, zeros)


@check("architecture", points=2)
def sampling_is_as_it_was(submission: Submission) -> None:
    """reparameterize(mu, logvar) still draws from N(mu, exp(logvar)), with its gradients."""
    model = new_vae(submission, N_CLASSES)
    vae.expect_right_spread(model)
    vae.expect_sampling_gradients(model)


@check("architecture", points=2)
def gradients_reach_every_parameter(submission: Submission) -> None:
    """Every parameter has a part in the image."""
    vae.expect_every_part_used(new_vae(submission, N_CLASSES), some_vectors(5))


@check("training", points=2)
def model_is_in_training_mode(submission: Submission) -> None:
    """train_epoch trains with the model in training mode, whatever mode it was in before."""
    expect_training_mode(trial(submission, lr=0.01))


@check("result", points=2)
def test_loss_is_close_to_training_loss(submission: Submission) -> str:
    """The model does on new digits nearly what it does on those it was trained on."""
    return vae.expect_low_test_loss(findings(submission).losses, D4, slack=1.05)


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
