"""The checks of deliverable 3 that students do not see."""

from __future__ import annotations

from helpers.check import check
from helpers.checks import vae
from helpers.checks.common import expect_images_apart, random_images
from helpers.checks.d3_vae import D3, losses, trial
from helpers.checks.trial import expect_training_mode
from helpers.checks.vae import new_vae
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
    vae.expect_every_part_used(new_vae(submission), None)


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
    return vae.expect_low_test_loss(losses(submission), D3, slack=1.05)
