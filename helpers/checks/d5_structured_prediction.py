"""The checks of deliverable 5 that students can see."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Object, Submission, check, close, expect, expect_close, expect_tensor
from helpers.checks.common import architecture, sampling, settings, vae_loss, vae_model
from helpers.checks.common.images import random_images, some_digits
from helpers.checks.common.results import RUN_AGAIN, check_budget, check_reported, expect_low, once
from helpers.checks.common.trial import Trial, check_training, mse_trial, vae_trial
from helpers.checks.common.vae_model import LATENT_DIM, new_vae, with_condition
from helpers.checks.common.vae_results import WIDER, Losses, decode, trained_losses
from helpers.deliverables import get

D5 = get("d5_structured_prediction")
QUARTER_DIM = int(D5["quarter_dim"])
#: The numbers of test images and of codes per image with which the likelihood is estimated.
N_IMAGES, N_DRAWS = 300, 100


def quarter(images: Tensor) -> Tensor:
    """The lower left quarters (N, 196) of images (N, 1, 28, 28): rows 14..27, columns 0..13."""
    return images[:, 0, 14:, :14].flatten(1)


def some_quarters(n_images: int) -> Tensor:
    """Quarters (n_images, 196) of random images."""
    return quarter(random_images(n_images))


@check("quarter", points=8)
def quarter_is_the_lower_left(submission: Submission) -> None:
    """lower_left_quarter gives rows 14 to 27 and columns 0 to 13, as (N, 196), row after row."""
    for n_images in (4, 1):
        images = random_images(n_images)
        square = images[:, 0]
        hint = "Flatten each quarter, and keep the batch axis: .flatten(1)."
        output = expect_tensor(
            submission.call("lower_left_quarter", images),
            (n_images, QUARTER_DIM),
            what=f"lower_left_quarter of {n_images} images",
            hint=hint,
        )
        mistakes = {
            "This is the upper left quarter: row 0 is at the top.": square[:, :14, :14],
            "This is the upper right quarter.": square[:, :14, 14:],
            "This is the lower right quarter: column 0 is at the left.": square[:, 14:, 14:],
            "Its rows and columns are swapped.": square[:, 14:, :14].transpose(1, 2),
        }
        expect_close(
            output,
            quarter(images),
            "lower_left_quarter does not give the lower left quarter, row after row.",
            {hint: wrong.flatten(1) for hint, wrong in mistakes.items()},
            "It is images[:, :, 14:, :14].",
        )


def new_baseline(submission: Submission) -> Object:
    """A fresh, small baseline."""
    return submission.new("BaselineNN", QUARTER_DIM, 32, 784)


@check("baseline_network", points=4)
def baseline_maps_quarters_to_images(submission: Submission) -> None:
    """BaselineNN maps quarters (N, 196) to images (N, 1, 28, 28) with pixels in [0, 1]."""
    model = new_baseline(submission)
    for n_images in (7, 1):
        what = f"The baseline's output for {n_images} quarters"
        hint = "Its Sigmoid is followed by nn.Unflatten(1, (1, 28, 28))."
        shape = (n_images, 1, 28, 28)
        images = model.tensor(
            "", 20 * torch.randn(n_images, QUARTER_DIM), shape=shape, what=what, hint=hint
        )
        low, high = float(images.min()), float(images.max())
        expect(
            low >= 0 and high <= 1,
            f"Its pixels should lie in [0, 1], but they go from {low:.2f} to {high:.2f}.",
            "It ends in a Sigmoid, like the decoder.",
        )


@check("baseline_network", points=2)
def baseline_has_one_answer(submission: Submission) -> None:
    """The baseline gives the same image for the same quarter."""
    model, quarters = new_baseline(submission), some_quarters(5)
    first, second = (model.tensor("", quarters, what="The baseline's output") for _ in range(2))
    expect(close(first, second), "The baseline gives two answers to one quarter.")


@check("architecture", points=3)
def encoder_and_decoder_read_the_quarter(submission: Submission) -> None:
    """With C = 196, the encoder maps (N, 784 + C) to hidden, the decoder (N, Z + C) to images."""
    model = new_vae(submission, QUARTER_DIM)
    architecture.expect_sequential(model, "encoder")
    vae_model.expect_encoder_shapes(model, some_quarters)
    vae_model.expect_head_shapes(model)
    architecture.expect_sequential(model, "decoder")
    vae_model.expect_decoder_shapes(model, some_quarters)
    architecture.expect_black_to_white(model, 10 * torch.randn(50, LATENT_DIM + QUARTER_DIM))


@check("architecture", points=3)
def condition_follows_the_image(submission: Submission) -> None:
    """forward(x, c) gives the encoder the flattened image, and the quarter behind it."""
    vae_model.expect_forward_parameters(new_vae(submission, QUARTER_DIM), some_quarters(5))


@check("architecture", points=3)
def condition_follows_the_code(submission: Submission) -> None:
    """forward(x, c) decodes a sample of N(mu, exp(logvar)), with the quarter behind it."""
    vae_model.expect_forward_decodes(new_vae(submission, QUARTER_DIM), some_quarters(5))


@check("loss", points=5)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence, with the right gradients."""
    vae_loss.expect_loss_value(submission)
    vae_loss.expect_loss_gradients(submission, vae_loss.random_case(4))


@check("settings", points=2)
def settings_are_within_the_rules(submission: Submission) -> None:
    """latent_dim, hidden_dim, batch_size and n_epochs are within the rules; Adam updates all."""
    settings.expect_vae_settings(submission, D5)
    settings.expect_adam(submission)
    settings.expect_adam(submission, "baseline_optimizer", "baseline")


@check("settings", points=2)
def models_are_within_their_budget(submission: Submission) -> str:
    """`model` and `baseline` have no more trainable parameters than allowed."""
    settings.within_budget(submission.object("baseline").parameters(), D5)
    return settings.within_budget(submission.object("model").parameters(), D5)


@check("settings", points=3)
def baseline_has_the_capacity_of_the_decoder(submission: Submission) -> str:
    """`baseline` has about as many parameters as the decoder of `model`."""
    decoder = submission.object("model").parameters("decoder")
    n_decoder = sum(tensor.numel() for tensor in decoder.values())
    n_baseline = sum(t.numel() for t in submission.object("baseline").parameters().values())
    text = f"The baseline has {n_baseline:,} parameters, and the decoder {n_decoder:,}."
    expect(
        0.75 * n_decoder <= n_baseline <= 1.33 * n_decoder,
        text,
        "A fair comparison needs the same layers in both: as many, and as wide.",
    )
    return text


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""

    def condition(images: Tensor, _: Tensor) -> Tensor:
        return their_quarter(submission, images)

    return vae_trial(submission, lr, sizes=[QUARTER_DIM], condition=condition)


def baseline_trial(submission: Submission, lr: float) -> Trial:
    """The student's train_baseline on a tiny model."""
    view = partial(their_quarter, submission)
    return mse_trial(submission, lr, model="TinyBaseline", view=view, function="train_baseline")


def their_quarter(submission: Submission, images: Tensor) -> Tensor:
    """Quarters cut out by the student's code, whose mistakes cost only the check of the quarter."""
    return expect_tensor(
        submission.call("lower_left_quarter", images),
        (len(images), QUARTER_DIM),
        what="What lower_left_quarter returns",
    )


check_training(
    __name__,
    trial,
    points=(3, 5),
    lr=0.1,
    hint="For each batch: zero_grad, model(images, lower_left_quarter(images)), the loss that "
    "train_epoch is given, backward, step.",
    mean_title="train_epoch returns the mean loss over all images, given their quarters.",
)
check_training(
    __name__,
    baseline_trial,
    points=(3, 4),
    lr=1.0,
    hint="For each batch: zero_grad, criterion(model(lower_left_quarter(images)), images), "
    "backward, step.",
    function="train_baseline",
    mean_title="train_baseline returns the mean loss over all images, predicted from their "
    "quarters.",
    steps_title="Two epochs of train_baseline move the parameters just as gradient descent should.",
)


def complete(submission: Submission, model: Object, quarters: Tensor) -> Tensor:
    """Images (N, 1, 28, 28) that the student's complete returns for quarters (N, 196)."""
    output = submission.call("complete", model, quarters, LATENT_DIM)
    return expect_tensor(output, (len(quarters), 1, 28, 28), what="What complete returns")


@check("prediction", points=6)
def completions_are_drawn_from_the_prior(submission: Submission) -> None:
    """complete decodes a draw from N(0, I), with the quarter behind it."""
    model = new_vae(submission, QUARTER_DIM)
    quarters = some_quarters(3).repeat_interleave(400, dim=0)
    sampling.expect_prior_draws(model, lambda: complete(submission, model, quarters), quarters)


@check("prediction", points=3)
def completions_differ(submission: Submission) -> None:
    """complete draws a new code for each quarter, at each call."""
    model = new_vae(submission, QUARTER_DIM)
    quarters = some_quarters(1).expand(20, -1).contiguous()
    first, second = (complete(submission, model, quarters) for _ in range(2))
    sampling.expect_different_draws(first, second)


@dataclass(frozen=True)
class Findings(Losses):
    """Losses, and log likelihoods of the hidden quarters in nats per image."""

    #: Log likelihood under the baseline.
    baseline: float
    #: Log likelihood under the conditional VAE, estimated with codes from the prior.
    cvae: float
    #: Mean standard deviation of the hidden pixels over the codes.
    spread: float


@once
def findings(submission: Submission) -> Findings:
    """Measure the trained models; see :class:`Findings`."""
    images = some_digits(train=False)[0][:N_IMAGES]
    quarters = quarter(images)
    baseline = submission.trained("baseline").apply("", quarters, what="The baseline's output")
    expect(baseline.shape == images.shape, "The baseline's images should be (N, 1, 28, 28).")
    expect(bool(((baseline >= 0) & (baseline <= 1)).all()), "Pixels should lie in [0, 1].")
    estimates: list[tuple[float, float]] = []

    def draw(model: Object, latent_dim: int) -> None:
        estimates.append(_estimate(model, latent_dim, images, quarters))

    losses = trained_losses(submission, "cvae", condition=lambda x, _: quarter(x), also=draw)
    cvae, spread = estimates[0]
    likelihood = float(log_likelihood(baseline, images).mean())
    return Findings(**vars(losses), baseline=likelihood, cvae=cvae, spread=spread)


def log_likelihood(x_hat: Tensor, x: Tensor) -> Tensor:
    """Bernoulli log likelihood of the three hidden quarters of each image, (N,), in nats."""
    hidden = torch.ones(28, 28)
    hidden[14:, :14] = 0
    pixels = functional.binary_cross_entropy(x_hat, x, reduction="none")
    return -(pixels * hidden).flatten(1).sum(dim=1)


def _estimate(
    model: Object, latent_dim: int, images: Tensor, quarters: Tensor
) -> tuple[float, float]:
    """Monte Carlo estimate of log p(hidden | quarter), and the draws' spread.

    log (1/S) sum_s p(x | z_s, c) with z_s from the prior (Sohn, Lee & Yan, 2015, section 4.2). Its
    expectation lies below the log likelihood and rises with S.
    """
    generator = torch.Generator().manual_seed(4)
    terms, draws = [], []
    at_once = 10
    for _ in range(N_DRAWS // at_once):
        codes = torch.randn(at_once * len(images), latent_dim, generator=generator)
        x_hat = decode(model, with_condition(codes, quarters.repeat(at_once, 1)))
        terms.append(log_likelihood(x_hat, images.repeat(at_once, 1, 1, 1)).view(at_once, -1))
        draws.append(x_hat.view(at_once, -1, 28, 28)[:, :20])
    estimates = torch.cat(terms).logsumexp(dim=0) - math.log(N_DRAWS)
    hidden_half = torch.cat(draws)[:, :, :14]
    return float(estimates.mean()), float(hidden_half.std(dim=0).mean())


@check("result", points=3)
def models_have_learned(submission: Submission) -> str:
    """Both trained models do clearly better than the mean image would."""
    found = findings(submission)
    expect(
        found.training < 140.0,
        f"Training loss {found.training:.1f}: the mean image alone would reach 206.",
        RUN_AGAIN,
    )
    least = D5["min_baseline"]
    expect(
        found.baseline > least,
        f"The baseline gives the hidden quarters a log likelihood of {found.baseline:.1f}; it "
        f"should be above {least:g}.",
        RUN_AGAIN,
    )
    return f"Baseline: {found.baseline:.1f} nats per image on the hidden quarters."


@check("result", points=5)
def training_loss_is_low(submission: Submission) -> str:
    """The conditional VAE's loss on training images, with codes drawn by us, is low enough."""
    loss = findings(submission).training
    return expect_low(f"Training loss {loss:.1f} nats per image", loss, D5.max_loss, WIDER)


@check("result", points=7)
def several_answers_beat_one(submission: Submission) -> str:
    """On the hidden quarters, the conditional VAE's likelihood is above the baseline's."""
    found = findings(submission)
    gain, least = found.cvae - found.baseline, D5["min_gain"]
    note = (
        f"Log likelihood of the hidden quarters: {found.cvae:.1f} with {N_DRAWS} draws from the "
        f"prior, baseline {found.baseline:.1f}"
    )
    expect(gain > least, f"{note}; the gain must be above {least:g} nats.")
    return f"{note} nats per image."


check_budget(__name__, points=2)
check_reported(__name__, findings, tolerance=0.05)
