"""The checks of deliverable 5 that students can see."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import crop

from helpers.checking import Object, Submission, check, close, expect, expect_tensor
from helpers.checks.common import (
    architecture,
    sampling,
    settings,
    vae_loss,
    vae_model,
    vae_parts,
)
from helpers.checks.common.conduct import expect_no_seed
from helpers.checks.common.images import random_images, some_digits
from helpers.checks.common.results import RUN_AGAIN, check_learned, check_reported, expect_low, once
from helpers.checks.common.standin import is_right
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import Trial, mse_trial, vae_trial
from helpers.checks.common.vae_model import LATENT_DIM, new_vae, with_condition
from helpers.checks.common.vae_results import WIDER, Losses, decode, trained_losses
from helpers.deliverables import get

D5 = get("d5_structured_prediction")
QUARTER_DIM = int(D5["quarter_dim"])
#: The numbers of test images and of codes per image with which the likelihood is estimated.
N_IMAGES, N_DRAWS = 300, 100


def quarter(images: Tensor) -> Tensor:
    """The lower left quarters (N, 196) of images (N, 1, 28, 28): rows 14..27, columns 0..13."""
    cut: Tensor = crop(images, top=14, left=0, height=14, width=14)
    return cut.reshape(len(images), -1)


def some_quarters(n_images: int) -> Tensor:
    """Quarters (n_images, 196) of random images."""
    return quarter(random_images(n_images))


#: The names of the other quarters by their first row and column.
_QUARTERS = {
    (0, 0): "This is the upper left quarter: row 0 is at the top.",
    (0, 14): "This is the upper right quarter: row 0 is at the top, column 0 at the left.",
    (14, 14): "This is the lower right quarter: column 0 is at the left.",
}


@check("quarter", points=8)
def quarter_is_the_lower_left(submission: Submission) -> None:
    """lower_left_quarter gives rows 14 to 27 and columns 0 to 13, as (N, 196), row after row."""
    for n_images in (4, 1):
        images = random_images(n_images)
        what = f"lower_left_quarter of {n_images} images"
        answer = submission.call("lower_left_quarter", images)
        hint = _part_hint(answer, images) if isinstance(answer, Tensor) else ""
        output = expect_tensor(answer, (n_images, QUARTER_DIM), what=what, hint=hint)
        expect(
            close(output, quarter(images)),
            "lower_left_quarter does not give the lower left quarter, row after row.",
            hint,
        )
    architecture.expect_kept(submission, "lower_left_quarter", images)


def _part_hint(answer: Tensor, images: Tensor) -> str:
    """Which part of the images (N, 1, 28, 28) an answer is, or ""."""
    values = answer.float().reshape(-1)
    n_images = len(images)
    if values.numel() == 0 or values.numel() % n_images:
        return ""
    square, rows = images[0, 0], values.view(n_images, -1)
    # All pixels differ, so the first and the last of a part tell where it lies.
    ends = [(square == pixel).nonzero().tolist() for pixel in (rows[0, 0], rows[0, -1])]
    if not all(ends):
        return ""
    (top, left), (bottom, right) = ends[0][0], ends[1][0]
    part = images[:, 0, top : bottom + 1, left : right + 1]
    turned = close(rows, part.transpose(1, 2).flatten(1))
    if not turned and not close(rows, part.flatten(1)):
        return ""
    if turned:
        return "Its rows and columns are exchanged: take it row after row."
    if (top, left, bottom, right) == (14, 0, 27, 13):
        if answer.ndim == 1:
            return "The batch axis is flattened away: .flatten(1) keeps it."
        return "Flatten each quarter, and keep the batch axis: .flatten(1)."
    if part.shape[1:] == (14, 14) and (top, left) in _QUARTERS:
        return _QUARTERS[top, left]
    return f"These are rows {top} to {bottom} and columns {left} to {right}."


@once
def replaced(submission: Submission) -> dict[str, str]:
    """What stands in for lower_left_quarter, if that is not right: it has a check of its own."""
    if is_right(lambda: quarter_is_the_lower_left(submission)):
        return {}
    return {"lower_left_quarter": f"{__name__}.quarter"}


def new_baseline(submission: Submission) -> Object:
    """A fresh, small baseline, in eval mode: Dropout and BatchNorm are welcome."""
    model = submission.new("BaselineNN", QUARTER_DIM, 32, 784)
    model.call("eval")
    return model


def predicted(model: Object, quarters: Tensor) -> Tensor:
    """What a baseline answers, as images (N, 1, 28, 28), whatever the shape."""
    return vae_model.as_images(model.call("", quarters), len(quarters), "The baseline's output")


@check("baseline_network", points=4)
def baseline_maps_quarters_to_images(submission: Submission) -> None:
    """BaselineNN maps quarters (N, 196) to images (N, 1, 28, 28) with pixels in [0, 1]."""
    model = new_baseline(submission)
    for n_images in (7, 1):
        quarters = 20 * torch.randn(n_images, QUARTER_DIM)
        images = model.tensor(
            "",
            quarters,
            shape=(n_images, 1, 28, 28),
            what=f"The baseline's output for {n_images} quarters",
            hint="Its Sigmoid is followed by nn.Unflatten(1, (1, 28, 28)).",
        )
        vae_parts.expect_sigmoid_last(model, quarters, "", what="baseline")
        low, high = float(images.min()), float(images.max())
        expect(
            low >= 0 and high <= 1,
            f"Its pixels should lie in [0, 1], but they go from {low:.2f} to {high:.2f}.",
            "It ends in a Sigmoid, like the decoder.",
        )
        expect(
            low < 0.5 < high,
            f"Its pixels cannot leave [{low:.2f}, {high:.2f}].",
            "It ends in one Sigmoid, like the decoder, and nothing else.",
        )
    architecture.expect_kept(model, "", quarters)


@check("baseline_network", points=2)
def baseline_has_one_answer(submission: Submission) -> None:
    """In eval mode, the baseline gives the same image for the same quarter."""
    model, quarters = new_baseline(submission), some_quarters(5)
    first, second = (predicted(model, quarters) for _ in range(2))
    expect(
        close(first, second),
        "The baseline gives two answers to one quarter, in eval mode too.",
        "It draws nothing at random.",
    )
    architecture.expect_images_apart(quarters, lambda given: predicted(model, given))
    steps = model.trace("", quarters, training=True).steps
    drawn = [step.function for step in steps if step.function in _DRAWING]
    expect(
        not drawn,
        f"In training mode the baseline calls torch.{''.join(drawn[:1])}.",
        "It draws nothing at random.",
    )


#: Functions of torch that draw random numbers.
_DRAWING = ("rand", "randn", "rand_like", "randn_like", "normal", "bernoulli")


@check("architecture", points=3)
def encoder_and_decoder_read_the_quarter(submission: Submission) -> None:
    """With C = 196, the encoder maps (N, 784 + C) to hidden, the decoder (N, Z + C) to images."""
    model = new_vae(submission, QUARTER_DIM)
    architecture.expect_sequential(model, "encoder")
    vae_parts.expect_encoder_shapes(model, some_quarters)
    vae_parts.expect_head_shapes(model)
    architecture.expect_sequential(model, "decoder")
    vae_parts.expect_decoder_shapes(model, some_quarters)
    codes = 10 * torch.randn(50, LATENT_DIM + QUARTER_DIM)
    vae_parts.expect_sigmoid_last(model, codes)
    architecture.expect_black_to_white(model, codes)


@check("architecture", points=3)
def condition_follows_the_image(submission: Submission) -> None:
    """forward(x, c) gives the encoder the flattened image, and the quarter after it."""
    vae_model.expect_forward_parameters(new_vae(submission, QUARTER_DIM), some_quarters(5))


@check("architecture", points=3)
def condition_follows_the_code(submission: Submission) -> None:
    """forward(x, c) decodes a sample of N(mu, exp(logvar)), with the quarter after it."""
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
    model = new_baseline(submission)
    steps = architecture.computed(model, "", some_quarters(5))
    kinds = [architecture.layer_name(step) for step in steps]
    architecture.expect_activated_between(kinds, "Linear", "baseline")
    sizes = {
        sum(t.numel() for t in submission.new("BaselineNN", 196, width, 784).parameters().values())
        for width in (16, 48)
    }
    expect(len(sizes) > 1, "hidden_dim does not change the number of the baseline's parameters.")
    text = f"The baseline has {n_baseline:,} parameters, and the decoder {n_decoder:,}."
    expect(
        D5["min_capacity"] * n_decoder <= n_baseline <= D5["max_capacity"] * n_decoder,
        text,
        "A fair comparison needs the same layers in both: as many, and as wide.",
    )
    return text


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    return vae_trial(
        submission,
        lr,
        sizes=[QUARTER_DIM],
        condition=lambda images, _: quarter(images),
        condition_text="the lower left quarters",
        replaced=replaced(submission),
    )


def baseline_trial(submission: Submission, lr: float) -> Trial:
    """The student's train_baseline on a tiny model."""
    return mse_trial(
        submission,
        lr,
        model="TinyBaseline",
        view=quarter,
        function="train_baseline",
        lopsided=True,
        condition=lambda images, _: quarter(images),
        condition_text="the lower left quarters",
        replaced=replaced(submission),
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
    """complete decodes a draw from N(0, I), with the quarter after it."""
    model = sampling.drawing_model(submission, QUARTER_DIM)
    quarters = some_quarters(3).repeat(400, 1)
    sampling.expect_prior_draws(
        model, lambda: complete(submission, model, quarters), quarters, "complete"
    )


@check("prediction", points=3)
def completions_differ(submission: Submission) -> None:
    """complete draws a new code for each quarter, at each call, and changes nothing else."""
    model = sampling.drawing_model(submission, QUARTER_DIM)
    quarters = some_quarters(1).expand(20, -1).contiguous()
    first, second = (complete(submission, model, quarters) for _ in range(2))
    sampling.expect_different_draws(first, second)
    expect_no_seed(submission, lambda: complete(submission, model, quarters), "complete")
    sampling.expect_mode_kept(model, "complete")
    architecture.expect_kept(submission, "complete", model, quarters, LATENT_DIM)


@dataclass(frozen=True)
class Findings(Losses):
    """The conditional VAE's losses, and its log likelihood of the hidden quarters, in nats."""

    #: Log likelihood per image, estimated with codes from the prior.
    cvae: float
    #: Mean standard deviation of the hidden pixels over the codes.
    spread: float


@once
def findings(submission: Submission) -> Findings:
    """Measure the trained conditional VAE; see :class:`Findings`."""
    images = some_digits(train=False)[0][:N_IMAGES]
    estimates: list[tuple[float, float]] = []

    def draw(model: Object, latent_dim: int) -> None:
        estimates.append(_estimate(model, latent_dim, images, quarter(images)))

    losses = trained_losses(submission, "cvae", condition=lambda x, _: quarter(x), also=draw)
    cvae, spread = estimates[0]
    return Findings(**vars(losses), cvae=cvae, spread=spread)


@once
def baseline_likelihood(submission: Submission) -> float:
    """Log likelihood of the hidden quarters under the trained baseline, in nats per image."""
    images = some_digits(train=False)[0][:N_IMAGES]
    what = "The baseline's output"
    answer = submission.trained("baseline").apply("", quarter(images), what=what)
    x_hat = vae_model.as_images(answer, len(images), what)
    expect(bool(((x_hat >= 0) & (x_hat <= 1)).all()), "Pixels should lie in [0, 1].")
    return float(log_likelihood(x_hat, images).mean())


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


check_learned(
    __name__,
    findings,
    points=2,
    below=140.0,
    figure="Training loss {:.1f}",
    instead=": the mean image alone would reach 206.",
    unit=" nats per image",
    title="The trained conditional VAE does clearly better than the mean image would.",
)


@check("result", points=1)
def baseline_has_learned(submission: Submission) -> str:
    """The trained baseline does clearly better than the mean image would."""
    found, least = baseline_likelihood(submission), D5["min_baseline"]
    expect(
        found > least,
        f"The baseline gives the hidden quarters a log likelihood of {found:.1f}; it should be "
        f"above {least:g}.",
        RUN_AGAIN,
    )
    return f"Baseline: {found:.1f} nats per image on the hidden quarters."


@check("result", points=5)
def training_loss_is_low(submission: Submission) -> str:
    """The conditional VAE's loss on training images, with codes drawn by us, is low enough."""
    loss = findings(submission).training
    return expect_low(f"Training loss {loss:.1f} nats per image", loss, D5.max_loss, WIDER)


@check("result", points=7)
def several_answers_beat_one(submission: Submission) -> str:
    """On the hidden quarters, the conditional VAE's likelihood is above the baseline's."""
    cvae, baseline = findings(submission).cvae, baseline_likelihood(submission)
    gain, least = cvae - baseline, D5["min_gain"]
    note = (
        f"Log likelihood of the hidden quarters: {cvae:.1f} with {N_DRAWS} draws from the prior, "
        f"baseline {baseline:.1f}"
    )
    expect(gain > least, f"{note}; the gain must be above {least:g} nats.")
    return f"{note} nats per image."


@check("result", points=1)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained conditional VAE has no more parameters than allowed."""
    return settings.within_budget(settings.learned(submission.checkpoint("cvae")), D5)


@check("result", points=1)
def baseline_is_within_its_budget(submission: Submission) -> str:
    """The trained baseline has no more parameters than allowed."""
    return settings.within_budget(settings.learned(submission.checkpoint("baseline")), D5)


check_reported(__name__, findings, tolerance=0.05)
