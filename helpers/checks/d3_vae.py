"""The checks of deliverable 3 that students see."""

from __future__ import annotations

import torch

from helpers.check import check
from helpers.checks import vae
from helpers.checks.common import (
    expect_adam,
    expect_black_to_white,
    expect_reported,
    expect_sequential,
    once,
    within_budget,
)
from helpers.checks.trial import Trial, expect_mean_loss, expect_right_steps
from helpers.checks.vae import LATENT_DIM, Losses, new_vae, no_condition, trained_losses
from helpers.deliverables import get
from helpers.submission import Submission

D3 = get("d3_vae")


# Architecture.


@check("architecture", points=4)
def encoder_maps_images_to_hidden(submission: Submission) -> None:
    """The encoder, an nn.Sequential, maps images (N, 1, 28, 28) to (N, hidden_dim)."""
    model = new_vae(submission)
    expect_sequential(model, "encoder")
    vae.expect_encoder_shapes(model, no_condition)


@check("architecture", points=4)
def heads_map_hidden_to_latent(submission: Submission) -> None:
    """mu_layer and logvar_layer are Linear and map (N, hidden_dim) to (N, latent_dim)."""
    vae.expect_head_shapes(new_vae(submission))


@check("architecture", points=4)
def decoder_maps_codes_to_images(submission: Submission) -> None:
    """The decoder, an nn.Sequential, maps codes (N, latent_dim) to images (N, 1, 28, 28)."""
    model = new_vae(submission)
    expect_sequential(model, "decoder")
    vae.expect_decoder_shapes(model, no_condition)


@check("architecture", points=3)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    expect_black_to_white(new_vae(submission), 10 * torch.randn(50, LATENT_DIM))


# Sampling.


@check("reparameterize", points=5)
def draws_have_the_right_mean_and_spread(submission: Submission) -> None:
    """reparameterize(mu, logvar) draws from the normal distribution N(mu, exp(logvar))."""
    vae.expect_right_spread(new_vae(submission))


@check("reparameterize", points=3)
def noise_is_fresh(submission: Submission) -> None:
    """Each call, each image and each dimension gets noise of its own."""
    vae.expect_fresh_noise(new_vae(submission))


@check("reparameterize", points=4)
def gradients_pass_through_the_draw(submission: Submission) -> None:
    """Gradients reach mu and logvar through the draw."""
    vae.expect_sampling_gradients(new_vae(submission))


# Forward.


@check("forward", points=3)
def forward_returns_what_the_layers_give(submission: Submission) -> None:
    """forward(x) returns x_hat, mu, logvar, and these are mu_layer and logvar_layer of x."""
    vae.expect_forward_parameters(new_vae(submission), None)


@check("forward", points=4)
def forward_decodes_a_sample(submission: Submission) -> None:
    """The image that forward returns is decoded from a sample of N(mu, exp(logvar))."""
    vae.expect_forward_decodes(new_vae(submission), None)


# Loss.


@check("loss", points=7)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence, averaged over the batch."""
    vae.expect_loss_value(submission)


@check("loss", points=3)
def loss_does_not_grow_with_the_batch(submission: Submission) -> None:
    """The same images twice over have the same loss."""
    vae.expect_loss_per_image(submission)


@check("loss", points=4)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for x_hat, mu and logvar."""
    vae.expect_loss_gradients(submission, vae.random_case(4))


# Settings.


@check("settings", points=2)
def settings_are_within_the_rules(submission: Submission) -> None:
    """latent_dim, hidden_dim, batch_size and n_epochs are within the rules; Adam updates all."""
    vae.expect_settings(submission, D3)
    expect_adam(submission)


@check("settings", points=2)
def model_is_within_its_budget(submission: Submission) -> str:
    """`model` has no more trainable parameters than allowed."""
    return within_budget(submission.object("model").parameters(), D3)


# Training.


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    return vae.tiny_trial(submission, lr, "TinyVAE")


@check("training", points=5)
def train_epoch_returns_the_mean_loss(submission: Submission) -> None:
    """train_epoch returns the mean loss over all images of the epoch, as a number."""
    expect_mean_loss(trial(submission, lr=0.0))


@check("training", points=6)
def train_epoch_makes_the_right_steps(submission: Submission) -> None:
    """Two epochs of train_epoch move the parameters just as gradient descent should."""
    expect_right_steps(
        trial(submission, lr=0.1),
        hint="For each batch: zero_grad, x_hat, mu, logvar = model(images), the loss that "
        "train_epoch is given, backward, step.",
    )


# The trained model.


@once
def losses(submission: Submission) -> Losses:
    """What the trained model loses per image, in nats."""
    return trained_losses(submission, "vae")


#: A model that always answers with the mean image loses 206 nats.
LEARNED_SOMETHING = 160.0


@check("result", points=3)
def model_has_learned(submission: Submission) -> str:
    """The trained model does clearly better than the mean image would."""
    found = losses(submission)
    vae.expect_learned(found, LEARNED_SOMETHING)
    return f"Training loss {found.training:.1f} nats per image."


@check("result", points=10)
def training_loss_is_low(submission: Submission) -> str:
    """The trained model's loss on training images, with codes drawn by us, is low enough."""
    found = losses(submission)
    note = vae.expect_low_training_loss(found, D3)
    return f"{note}, of which the KL divergence is {found.kl:.1f}."


@check("result", points=2)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    return within_budget(submission.checkpoint("vae"), D3)


@check("result", points=0)
def reported_loss_agrees(submission: Submission) -> str:
    """The loss that your training reported last agrees with the one measured now."""
    loss = losses(submission).training
    return expect_reported(submission.losses("vae"), loss, tolerance=0.05)
