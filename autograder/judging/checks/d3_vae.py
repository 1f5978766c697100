"""The checks of deliverable 3 that students cannot see."""

from autograder.judging.checks.common import check_test_score, check_training_mode
from helpers.checking import Submission, check
from helpers.checks.common import vae_loss, vae_model
from helpers.checks.common.architecture import expect_images_apart
from helpers.checks.common.images import random_images
from helpers.checks.common.trial import vae_trial
from helpers.checks.common.vae_model import new_vae
from helpers.checks.d3_vae import D3, losses


@check("forward", points=2)
def images_do_not_influence_each_other(submission: Submission) -> None:
    """The distribution found for an image does not depend on the others in its batch."""
    model = new_vae(submission)
    expect_images_apart(random_images(6), lambda x: vae_model.means(model, x))


@check("forward", points=3)
def gradients_reach_every_parameter(submission: Submission) -> None:
    """Every parameter, those of mu_layer and logvar_layer too, has a part in the image."""
    vae_model.expect_every_part_used(new_vae(submission))


@check("loss", points=2)
def loss_survives_black_and_white(submission: Submission) -> None:
    """Pixels that are exactly 0 or 1 do not make the loss NaN or infinite."""
    vae_loss.expect_loss_at_the_ends(submission)


@check("loss", points=1)
def kl_agrees_with_sampling(submission: Submission) -> None:
    """The KL divergence in the loss is what sampling finds."""
    vae_loss.expect_sampled_kl(submission)


check_training_mode(__name__, vae_trial, points=2, lr=0.01)
check_test_score(__name__, losses, points=2, limit=D3["max_test_loss"], unit=" nats per image")
