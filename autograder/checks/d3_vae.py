"""The checks of deliverable 3 that students do not see."""

from __future__ import annotations

import torch

from helpers.check import check
from helpers.checks import vae
from helpers.checks.common import expect_all_used, expect_images_apart, random_images
from helpers.checks.d3_vae import D3, losses, trial
from helpers.checks.trial import expect_training_mode
from helpers.checks.vae import new_vae
from helpers.expect import expect
from helpers.submission import Submission


@check("forward", points=2)
def images_do_not_influence_each_other(submission: Submission) -> None:
    """The distribution found for an image does not depend on the others in its batch."""
    model = new_vae(submission)
    images = random_images(6)
    _, together, _ = vae.forward(model, images, None)
    expect_images_apart(
        together, lambda number: vae.forward(model, images[number : number + 1], None)[1]
    )


@check("forward", points=3)
def gradients_reach_every_parameter(submission: Submission) -> None:
    """Every parameter, those of mu_layer and logvar_layer too, has a part in the image."""
    model = new_vae(submission)
    weights = torch.randn(5, 1, 28, 28)
    answer = model.differentiate("", random_images(5), weights=weights, pick=0)
    expect_all_used(answer.parameters)


@check("loss", points=2)
def loss_survives_black_and_white(submission: Submission) -> None:
    """Pixels that are exactly 0 or 1 do not make the loss NaN or infinite."""
    vae.expect_loss_at_the_ends(submission)


@check("loss", points=1)
def kl_agrees_with_sampling(submission: Submission) -> None:
    """The KL divergence in the loss is what sampling finds."""
    vae.expect_sampled_kl(submission)


@check("training", points=2)
def model_is_in_training_mode(submission: Submission) -> None:
    """train_epoch trains with the model in training mode, whatever mode it was in before."""
    expect_training_mode(trial(submission, lr=0.01))


@check("result", points=2)
def test_loss_is_close_to_training_loss(submission: Submission) -> str:
    """The model does on new digits nearly what it does on those it was trained on."""
    found = losses(submission)
    limit = 1.05 * D3.max_loss
    expect(
        found.test < limit,
        f"Test loss {found.test:.1f} (training {found.training:.1f}); it must be below "
        f"{limit:.0f}.",
    )
    return f"Test loss {found.test:.1f}, training {found.training:.1f} nats per image."
