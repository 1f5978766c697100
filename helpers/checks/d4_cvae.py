"""The checks of deliverable 4 that students can see."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.checking import (
    Object,
    StudentError,
    Submission,
    check,
    expect,
    expect_close,
    expect_tensor,
    fail,
)
from helpers.checks.common import (
    architecture,
    sampling,
    settings,
    vae_loss,
    vae_model,
    vae_parts,
)
from helpers.checks.common.conduct import expect_no_seed
from helpers.checks.common.images import random_images
from helpers.checks.common.kept import keep_result
from helpers.checks.common.results import check_budget, check_reported, once
from helpers.checks.common.standin import function_with, is_right
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import Trial, vae_trial
from helpers.checks.common.vae_model import LATENT_DIM, new_vae, with_condition
from helpers.checks.common.vae_results import Losses, check_losses, decode, trained_losses
from helpers.deliverables import get
from helpers.models import recognise

D4 = get("d4_cvae")
N_CLASSES = int(D4["n_classes"])


def vectors(labels: Tensor, num_classes: int = N_CLASSES) -> Tensor:
    """One-hot vectors (N, C) of labels (N,)."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()


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
        output = expect_tensor(answer, shape, what=what, hint=_one_hot_hint(answer, tensor))
        right = vectors(tensor, n_classes)

        def causes(right: Tensor = right, tensor: Tensor = tensor) -> dict[str, Tensor]:
            return {
                "Zeros and ones are exchanged.": 1 - right,
                "The ones are a place too far to the left: labels begin at 0.": right.roll(-1, 1),
                "The ones are a place too far to the right: labels begin at 0.": right.roll(1, 1),
                "The order is reversed: position 0 is the first.": right.flip(1),
                "It holds the label itself, not a 1 at its place.": tensor[:, None].expand_as(right)
                + torch.zeros_like(right),
                "There are the labels in place of ones.": tensor[:, None] * right,
                "They are all zeros.": torch.zeros_like(right),
                "They are all ones.": torch.ones_like(right),
            }

        message = (
            f"one_hot of the labels {labels} has ones at other places than the labels, or other "
            "numbers than 0 and 1."
        )
        expect_close(output, right, message, causes, tolerance=1e-6)
        # From another process all floating-point numbers come as float32.
        dtype = keep_result(submission, "one_hot", tensor, n_classes).get("dtype")
        expect(dtype == "torch.float32", f"{what} is {dtype}, and should be float32.")
    architecture.expect_kept(submission, "one_hot", torch.tensor([3, 0, 9]), N_CLASSES)


def _one_hot_hint(answer: object, labels: Tensor) -> str:
    """The mistake that gives another shape."""
    if not isinstance(answer, Tensor):
        return ""
    n_images, n_found = len(labels), tuple(answer.shape)
    if n_found == (n_images, int(labels.max()) + 1):
        return "That is the largest label plus one: pass num_classes on."
    if len(n_found) == 2 and n_found[0] == n_images:
        return "num_classes is the number of columns."
    if len(n_found) == 2 and n_found[1] == n_images:
        return "Rows and columns are exchanged: one row for each label."
    return "One row for each label, with num_classes numbers."


@check("architecture", points=4)
def encoder_reads_image_and_condition(submission: Submission) -> None:
    """The encoder, an nn.Sequential, maps (N, 784 + C) to (N, hidden_dim)."""
    model = new_vae(submission, N_CLASSES)
    architecture.expect_sequential(model, "encoder")
    vae_parts.expect_encoder_shapes(model, some_vectors)
    vae_parts.expect_head_shapes(model)


@check("architecture", points=4)
def decoder_reads_code_and_condition(submission: Submission) -> None:
    """The decoder, an nn.Sequential ending in a Sigmoid, maps (N, Z + C) to images."""
    model = new_vae(submission, N_CLASSES)
    architecture.expect_sequential(model, "decoder")
    vae_parts.expect_decoder_shapes(model, some_vectors)
    codes = 10 * torch.randn(50, LATENT_DIM + N_CLASSES)
    vae_parts.expect_sigmoid_last(model, codes)
    architecture.expect_black_to_white(model, codes)


@check("architecture", points=4)
def condition_follows_the_image(submission: Submission) -> None:
    """forward(x, c) gives the encoder the flattened image, and the condition after it."""
    for condition in (some_vectors(5), torch.randn(5, 4)):
        model = new_vae(submission, condition.shape[1])
        vae_model.expect_forward_parameters(model, condition)


@check("architecture", points=4)
def condition_follows_the_code(submission: Submission) -> None:
    """forward(x, c) decodes a sample of N(mu, exp(logvar)), with the condition after it."""
    for condition in (some_vectors(5), torch.randn(5, 4)):
        model = new_vae(submission, condition.shape[1])
        vae_model.expect_forward_decodes(model, condition)
    model = new_vae(submission, N_CLASSES)
    sampling.expect_unseeded_forward(model, random_images(5), some_vectors(5))


@check("architecture", points=4)
def without_a_condition_nothing_changes(submission: Submission) -> None:
    """With conditional_vec_dim=0 the model is the unconditional one of the last deliverable."""
    model = new_vae(submission)
    vae_parts.expect_encoder_shapes(model)
    vae_parts.expect_decoder_shapes(model)
    try:
        model.call("", random_images(3))
    except StudentError as error:
        if error.kind != "error":
            raise
        fail(
            f"Without a condition, forward raises {error.message}.",
            "Then c is None: leave the image and the code as they are.",
        )
    vae_model.expect_forward_parameters(model)
    vae_model.expect_forward_decodes(model)


@check("loss", points=6)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence, with the right gradients."""
    vae_loss.expect_loss_value(submission)
    vae_loss.expect_loss_at_the_ends(submission)
    vae_loss.expect_loss_gradients(submission, vae_loss.random_case(4))


@check("settings", points=2)
def settings_are_within_the_rules(submission: Submission) -> None:
    """latent_dim, hidden_dim, batch_size and n_epochs are within the rules; Adam updates all."""
    settings.expect_vae_settings(submission, D4)
    settings.expect_adam(submission)


settings.check_model_budget(__name__, points=2)


@once
def replaced(submission: Submission) -> dict[str, str]:
    """What stands in for the student's one_hot, if that is not right: it has a check of its own."""
    if is_right(lambda: one_hot_marks_the_label(submission)):
        return {}
    return {"one_hot": f"{__name__}.vectors"}


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    return vae_trial(
        submission,
        lr,
        sizes=[N_CLASSES],
        condition=lambda _, labels: vectors(labels),
        condition_text="the one-hot vectors of the labels",
        replaced=replaced(submission),
    )


check_training(
    __name__,
    trial,
    points=(5, 6),
    lr=0.1,
    hint="For each batch: zero_grad, model(images, one_hot(labels, 10)), the loss that train_epoch "
    "is given, backward, step.",
    mean_title="train_epoch returns the mean loss over all images, given their labels' vectors.",
)


def sampler(submission: Submission, model: Object) -> Callable[[Tensor], Tensor]:
    """The student's sample_digits: images (N, 1, 28, 28) that it draws for labels (N,)."""
    function = function_with(submission, "sample_digits", replaced(submission))

    def sample(labels: Tensor) -> Tensor:
        output = function.call("", model, labels, LATENT_DIM)
        return expect_tensor(output, (len(labels), 1, 28, 28), what="What sample_digits returns")

    return sample


@check("sampling", points=6)
def samples_show_the_digits_asked_for(submission: Submission) -> None:
    """sample_digits decodes the code and, after it, the vector of each label."""
    model = sampling.drawing_model(submission, N_CLASSES)
    sample = sampler(submission, model)
    labels = torch.tensor([4, 0, 9]).repeat(400)
    sampling.expect_prior_draws(model, lambda: sample(labels), vectors(labels), "sample_digits")


@check("sampling", points=4)
def samples_differ(submission: Submission) -> None:
    """sample_digits draws a new code for each image, at each call, and changes nothing else."""
    model = sampling.drawing_model(submission, N_CLASSES)
    sample, labels = sampler(submission, model), torch.full((20,), 3)
    sampling.expect_different_draws(sample(labels), sample(labels))
    expect_no_seed(submission, lambda: sample(labels), "sample_digits")
    sampling.expect_mode_kept(model, "sample_digits")
    if not replaced(submission):
        architecture.expect_kept(submission, "sample_digits", model, labels, LATENT_DIM)


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
