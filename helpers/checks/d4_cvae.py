"""The checks of deliverable 4 that students can see."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Object, Submission, check, expect, expect_tensor, fail
from helpers.checks.common import architecture, sampling, settings, vae_loss, vae_model
from helpers.checks.common.results import check_budget, check_reported, once
from helpers.checks.common.trial import Trial, check_training, vae_trial
from helpers.checks.common.vae_model import LATENT_DIM, new_vae, with_condition
from helpers.checks.common.vae_results import Losses, check_losses, decode, trained_losses
from helpers.deliverables import get
from helpers.models import recognise

D4 = get("d4_cvae")
N_CLASSES = int(D4["n_classes"])


def vectors(labels: Tensor) -> Tensor:
    """One-hot vectors (N, C) of labels (N,)."""
    return functional.one_hot(labels, N_CLASSES).float()


def some_vectors(n_images: int) -> Tensor:
    """One-hot vectors (n_images, C) of random labels."""
    return vectors(torch.randint(N_CLASSES, (n_images,)))


@check("one_hot", points=6)
def one_hot_marks_the_label(submission: Submission) -> None:
    """one_hot(labels, num_classes) has a 1.0 at each label's place, and 0.0 elsewhere."""
    for labels, n_classes in (([3, 0, 9, 3, 7], 10), ([1], 10), ([2, 0, 1, 3], 4)):
        tensor = torch.tensor(labels)
        answer = submission.call("one_hot", tensor, n_classes)
        what = f"one_hot of the labels {labels} with {n_classes} classes"
        if isinstance(answer, Tensor) and not answer.is_floating_point():
            fail(f"{what} is {answer.dtype}, and should be float32.", "Call .float().")
        shape = (len(labels), n_classes)
        output = expect_tensor(answer, shape, what=what, hint="Is num_classes used?")
        expect(output.dtype is torch.float32, f"{what} is {output.dtype}, and should be float32.")
        right = functional.one_hot(tensor, n_classes).float()
        expect(
            torch.equal(output, right),
            f"one_hot of the labels {labels} has ones at other places than the labels, or other "
            "numbers than 0 and 1.",
        )


@check("architecture", points=4)
def encoder_reads_image_and_condition(submission: Submission) -> None:
    """The encoder, an nn.Sequential, maps (N, 784 + C) to (N, hidden_dim)."""
    model = new_vae(submission, N_CLASSES)
    architecture.expect_sequential(model, "encoder")
    vae_model.expect_encoder_shapes(model, some_vectors)
    vae_model.expect_head_shapes(model)


@check("architecture", points=4)
def decoder_reads_code_and_condition(submission: Submission) -> None:
    """The decoder, an nn.Sequential ending in a Sigmoid, maps (N, Z + C) to images."""
    model = new_vae(submission, N_CLASSES)
    architecture.expect_sequential(model, "decoder")
    vae_model.expect_decoder_shapes(model, some_vectors)
    architecture.expect_black_to_white(model, 10 * torch.randn(50, LATENT_DIM + N_CLASSES))


@check("architecture", points=4)
def condition_follows_the_image(submission: Submission) -> None:
    """forward(x, c) gives the encoder the flattened image, and the condition behind it."""
    vae_model.expect_forward_parameters(new_vae(submission, N_CLASSES), some_vectors(5))


@check("architecture", points=4)
def condition_follows_the_code(submission: Submission) -> None:
    """forward(x, c) decodes a sample of N(mu, exp(logvar)), with the condition behind it."""
    vae_model.expect_forward_decodes(new_vae(submission, N_CLASSES), some_vectors(5))


@check("architecture", points=4)
def without_a_condition_nothing_changes(submission: Submission) -> None:
    """With conditional_vec_dim=0 the model is the unconditional one of the last deliverable."""
    model = new_vae(submission)
    vae_model.expect_encoder_shapes(model)
    vae_model.expect_decoder_shapes(model)
    vae_model.expect_forward_parameters(model)
    vae_model.expect_forward_decodes(model)


@check("loss", points=6)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence, with the right gradients."""
    vae_loss.expect_loss_value(submission)
    vae_loss.expect_loss_gradients(submission, vae_loss.random_case(4))


@check("settings", points=2)
def settings_are_within_the_rules(submission: Submission) -> None:
    """latent_dim, hidden_dim, batch_size and n_epochs are within the rules; Adam updates all."""
    settings.expect_vae_settings(submission, D4)
    settings.expect_adam(submission)


settings.check_model_budget(__name__, points=2)


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own.

    The right training uses the student's one_hot, so that its mistakes cost only its own check.
    """

    def condition(_: Tensor, labels: Tensor) -> Tensor:
        answer = submission.call("one_hot", labels, N_CLASSES)
        return expect_tensor(answer, (len(labels), N_CLASSES), what="What one_hot returns")

    return vae_trial(submission, lr, sizes=[N_CLASSES], condition=condition)


check_training(
    __name__,
    trial,
    points=(5, 6),
    lr=0.1,
    hint="For each batch: zero_grad, model(images, one_hot(labels, 10)), the loss that train_epoch "
    "is given, backward, step.",
    mean_title="train_epoch returns the mean loss over all images, given their labels' vectors.",
)


def sample(submission: Submission, model: Object, labels: Tensor) -> Tensor:
    """Images (N, 1, 28, 28) that the student's sample_digits draws for labels (N,)."""
    output = submission.call("sample_digits", model, labels, LATENT_DIM)
    return expect_tensor(output, (len(labels), 1, 28, 28), what="What sample_digits returns")


@check("sampling", points=6)
def samples_show_the_digits_asked_for(submission: Submission) -> None:
    """sample_digits decodes the code and, behind it, the vector of each label."""
    model = new_vae(submission, N_CLASSES)
    labels = torch.tensor([4, 0, 9]).repeat_interleave(400)
    sampling.expect_prior_draws(model, lambda: sample(submission, model, labels), vectors(labels))


@check("sampling", points=4)
def samples_differ(submission: Submission) -> None:
    """sample_digits draws a new code for each image, at each call."""
    model = new_vae(submission, N_CLASSES)
    first, second = (sample(submission, model, torch.full((20,), 3)) for _ in range(2))
    sampling.expect_different_draws(first, second)


@dataclass(frozen=True)
class Findings(Losses):
    """The losses of the trained model, and images that it draws."""

    #: (10, 300, 1, 28, 28): 300 for each digit.
    draws: Tensor


@once
def findings(submission: Submission) -> Findings:
    """The trained model's losses and draws."""
    per_digit = 300
    condition = vectors(torch.arange(N_CLASSES).repeat_interleave(per_digit))
    drawn: list[Tensor] = []

    def draw(model: Object, latent_dim: int) -> None:
        generator = torch.Generator().manual_seed(3)
        codes = torch.randn(len(condition), latent_dim, generator=generator)
        drawn.append(decode(model, with_condition(codes, condition)))

    found = trained_losses(
        submission, "cvae", condition=lambda _, labels: vectors(labels), also=draw
    )
    return Findings(**vars(found), draws=drawn[0].view(N_CLASSES, per_digit, 1, 28, 28))


check_losses(__name__, findings, points=(3, 7))


@check("result", points=8)
def digits_are_those_asked_for(submission: Submission) -> str:
    """A classifier recognises the digits that are drawn for each label."""
    images = findings(submission).draws
    labels = torch.arange(N_CLASSES)[:, None]
    found = recognise(images.flatten(0, 1)).view(N_CLASSES, -1)
    by_digit = (found == labels).float().mean(dim=1)
    share, worst = float(by_digit.mean()), int(by_digit.argmin())
    least = D4["min_recognised"]
    note = f"{share:.0%} of the draws are recognised as the digit asked for"
    expect(
        share >= least,
        f"{note}; it must be {least:.0%}.",
        "One in ten is what a model reaches that ignores its label: does the decoder get it?"
        if share < 0.2
        else "",
    )
    return f"{note} (least for {worst}: {float(by_digit[worst]):.0%})."


check_budget(__name__, points=2)
check_reported(__name__, findings, tolerance=0.05)
