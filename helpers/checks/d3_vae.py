"""The checks of deliverable 3 that students can see."""

import torch

from helpers.checking import Submission, check
from helpers.checks.common import architecture, settings, vae_loss, vae_model, vae_parts
from helpers.checks.common.images import random_images
from helpers.checks.common.results import check_budget, check_reported, once
from helpers.checks.common.sampling import check_sampling, expect_unseeded_forward
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import vae_trial
from helpers.checks.common.vae_model import LATENT_DIM, new_vae
from helpers.checks.common.vae_results import Losses, check_losses, trained_losses
from helpers.deliverables import get

D3 = get("d3_vae")


@check("architecture", points=4)
def encoder_maps_images_to_hidden(submission: Submission) -> None:
    """The encoder, an nn.Sequential, maps images (N, 1, 28, 28) to (N, hidden_dim)."""
    model = new_vae(submission)
    architecture.expect_sequential(model, "encoder")
    vae_parts.expect_encoder_shapes(model)


@check("architecture", points=4)
def heads_map_hidden_to_latent(submission: Submission) -> None:
    """mu_layer and logvar_layer are Linear and map (N, hidden_dim) to (N, latent_dim)."""
    vae_parts.expect_head_shapes(new_vae(submission))


@check("architecture", points=4)
def decoder_maps_codes_to_images(submission: Submission) -> None:
    """The decoder, an nn.Sequential, maps codes (N, latent_dim) to images (N, 1, 28, 28)."""
    model = new_vae(submission)
    architecture.expect_sequential(model, "decoder")
    vae_parts.expect_decoder_shapes(model)


@check("architecture", points=3)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    model, codes = new_vae(submission), 10 * torch.randn(50, LATENT_DIM)
    vae_parts.expect_sigmoid_last(model, codes)
    architecture.expect_black_to_white(model, codes)


check_sampling(
    __name__,
    new_vae,
    cell="reparameterize",
    points=(5, 3, 4),
    title="reparameterize(mu, logvar) draws from the normal distribution N(mu, exp(logvar)).",
)


@check("forward", points=3)
def forward_returns_what_the_layers_give(submission: Submission) -> None:
    """forward(x) returns x_hat, mu, logvar, and these are mu_layer and logvar_layer of x."""
    vae_model.expect_forward_parameters(new_vae(submission))


@check("forward", points=4)
def forward_decodes_a_sample(submission: Submission) -> None:
    """The image that forward returns is decoded from a sample of N(mu, exp(logvar))."""
    model = new_vae(submission)
    vae_model.expect_forward_decodes(model)
    expect_unseeded_forward(model, random_images(5))


@check("loss", points=7)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence, averaged over the batch."""
    vae_loss.expect_loss_value(submission)


@check("loss", points=3)
def loss_does_not_grow_with_the_batch(submission: Submission) -> None:
    """The same images twice over have the same loss."""
    vae_loss.expect_loss_per_image(submission)


@check("loss", points=4)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for x_hat, mu and logvar."""
    vae_loss.expect_loss_gradients(submission, vae_loss.random_case(4))


@check("settings", points=2)
def settings_are_within_the_rules(submission: Submission) -> None:
    """latent_dim, hidden_dim, batch_size and n_epochs are within the rules; Adam updates all."""
    settings.expect_vae_settings(submission, D3)
    settings.expect_adam(submission)


settings.check_model_budget(__name__, points=2)


check_training(
    __name__,
    vae_trial,
    points=(5, 6),
    lr=0.1,
    hint="For each batch: zero_grad, x_hat, mu, logvar = model(images), the loss that train_epoch "
    "is given, backward, step.",
)


@once
def losses(submission: Submission) -> Losses:
    """What the trained model loses per image, in nats."""
    return trained_losses(submission, "vae")


check_losses(__name__, losses, points=(3, 10))
check_budget(__name__, points=2)
check_reported(__name__, losses, tolerance=0.05)
