"""The checks of the model that joins its parts, and of its training."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import (
    CheckFailedError,
    Object,
    StudentError,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_number,
    expect_several,
    expect_tensor,
    fail,
)
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import Trial
from helpers.checks.d6_vqvae.quantising import D, K, N, new_quantizer, random_case, run_quantizer
from helpers.checks.d6_vqvae.standins import LopsidedError
from helpers.deliverables import get

D6 = get("d6_vqvae")
_HERE = "helpers.checks.d6_vqvae.standins"


def expect_joined(submission: Submission, quantizer: Object) -> tuple[Object, Tensor]:
    """Fail unless the student's model joins an encoder, this quantiser and a decoder.

    Returns:
        The model, and images (N, 3, h, w) that it takes.
    """
    encoder, decoder = (
        submission.build("torch.nn.Conv2d", *channels, 1) for channels in ((3, D), (D, 3))
    )
    model = submission.new("Model", encoder, quantizer, decoder)
    images = torch.rand(N, 3, 4, 6) - 0.5
    for mode in ("train", "eval"):
        model.call(mode)
        _expect_answer(model, encoder, quantizer, decoder, images)
    model.call("train")
    expect_kept(model, "", images)
    return model, images


def _expect_answer(
    model: Object, encoder: Object, quantizer: Object, decoder: Object, images: Tensor
) -> None:
    """Fail unless a model's answer is that of its parts."""
    message = "forward should return three things: loss, x_hat, perplexity; it returned {got}."
    found_loss, x_hat, found_perplexity = expect_several(model.call("", images), 3, message)
    scalar = isinstance(x_hat, Tensor) and x_hat.numel() == 1
    hint = "The order is loss, x_hat, perplexity." if scalar else ""
    what = "The x_hat that forward returns"
    x_hat = expect_tensor(x_hat, tuple(images.shape), what=what, hint=hint)
    z = encoder.tensor("", images)
    answer = run_quantizer(quantizer, z)
    quantized = expect_tensor(answer.quantized, tuple(z.shape), what="The quantized array")
    decoded = decoder.tensor("", quantized)
    mistakes = {
        "The quantiser is skipped.": decoder.tensor("", z),
        "The images are shifted: the decoder's answer is all.": decoded + 0.5,
        "A Sigmoid is applied: the decoder's answer is all.": decoded.sigmoid(),
    }
    expect_close(
        x_hat, decoded, "x_hat is not the decoder's answer to the quantized array.", mistakes
    )
    swapped = "Loss and perplexity are exchanged."
    right_loss = expect_number(answer.loss, what="The quantiser's loss")
    right_perplexity = expect_number(answer.perplexity, what="The quantiser's perplexity")
    for what, value, right, other in (
        ("loss", found_loss, right_loss, right_perplexity),
        ("perplexity", found_perplexity, right_perplexity, right_loss),
    ):
        number = expect_number(value, what=f"The {what} that forward returns")
        message = f"The {what} that forward returns is not the quantiser's."
        expect_close(number, right, message, {swapped: other})


def _expect_gradients(model: Object, images: Tensor) -> None:
    """Fail unless the loss and x_hat carry gradients to all that they are made of."""
    hint = "Return it as it comes: no .item(), no .detach() and no torch.no_grad()."
    for place, name, parts in (
        (0, "loss", ("encoder",)),
        (1, "x_hat", ("decoder", "encoder")),
    ):
        try:
            gradients = model.differentiate("", images, pick=place).parameters
        except StudentError as error:
            if "grad" not in error.message:
                raise
            fail(f"The {name} that forward returns has no gradient.", hint)
        for part in parts:
            moved = [g is not None for key, g in gradients.items() if key.startswith(part)]
            expect(not moved or any(moved), f"No gradient of {name} reaches the {part}.", hint)


@check("model_parts", points=4)
def model_joins_its_parts(submission: Submission) -> None:
    """forward(x) returns the quantiser's loss, the decoded quantized array and the perplexity."""
    bending = submission.build(f"{_HERE}.BendingQuantizer", K, D, 0.25)
    try:
        model, images = expect_joined(submission, bending)
    except (CheckFailedError, StudentError) as failure:
        # A model may be made for the student's own quantiser: its mistakes are others' concern.
        try:
            expect_joined(submission, new_quantizer(submission, random_case()[0]))
        except (CheckFailedError, StudentError):
            raise failure from None
    else:
        _expect_gradients(model, images)


@check("model_parts", points=3)
def error_is_in_units_of_the_variance(submission: Submission) -> None:
    """normalised_error is the mean squared error divided by the variance of the data."""
    variance = D6["data_variance"]
    for n_images in (4, 1):
        x_hat, x = torch.rand(n_images, 3, 8, 8), torch.rand(n_images, 3, 8, 8)
        answer = submission.call("normalised_error", x_hat, x)
        found = expect_number(answer, what="What normalised_error returns")
        squared = float(functional.mse_loss(x_hat, x))
        right = squared / variance
        causes = {
            f"Divide by the variance, {variance}.": squared,
            f"Divide by the variance, {variance}, not by its square root.": squared / variance**0.5,
            f"Divide by the variance, {variance}; do not multiply.": squared * variance,
            "Divide by the variance once, not twice.": squared / variance**2,
            "Divide by the variance of CIFAR-10, not by that of the batch.": squared
            / float(x.var()),
            "The squares are summed: take their mean over all numbers.": right * x.numel(),
            "The squares are summed over each image: take their mean.": right * x[0].numel(),
            "This is the mean of absolute differences: take squares.": float(
                (x_hat - x).abs().mean()
            )
            / variance,
            "This is the root of the mean square: take no root.": squared**0.5 / variance,
        }
        message = f"For a mean squared error of {squared:.4f} it gave {found:.4f}, and should give "
        expect_close(found, right, f"{message}{right:.4f}.", causes, tolerance=2e-3)
    x_hat, x = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    expect_kept(submission, "normalised_error", x_hat, x)
    expect(
        isinstance(submission.call("normalised_error", x_hat, x), Tensor),
        "normalised_error returns a plain number, from which no gradient can be computed.",
        "Return the tensor: no .item() and no float().",
    )
    gradient = submission.differentiate("normalised_error", x_hat, x, wrt=(0,)).inputs[0]
    expect(
        gradient is not None and close(gradient * variance * x.numel(), 2 * (x_hat - x), 2e-3),
        "The gradient of normalised_error for x_hat is not that of its value.",
        "Is something detached, or computed outside torch?",
    )


# Training.


def _error(
    model: nn.Module, _: Tensor, images: Tensor, __: Tensor, swapped: bool = False
) -> Tensor:
    x_hat = model(images)[1]
    return LopsidedError()(*((images, x_hat) if swapped else (x_hat, images)))


def _all_terms(
    model: nn.Module, _: Tensor, images: Tensor, labels: Tensor, swapped: bool = False
) -> Tensor:
    loss: Tensor = model(images)[0] + _error(model, _, images, labels, swapped)
    return loss


def _quantisers(model: nn.Module, _: Tensor, images: Tensor, __: Tensor) -> Tensor:
    loss: Tensor = model(images)[0]
    return loss


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model that quantises nothing."""
    return Trial(
        submission,
        lr,
        model="TinyVQVAE",
        criterion=f"{_HERE}.LopsidedError",
        loss=_all_terms,
        reported=_error,
        wrong={
            "x_hat and the images are exchanged in the call of error: it takes (x_hat, x).": (
                partial(_all_terms, swapped=True),
                partial(_error, swapped=True),
            ),
            "The quantiser's loss is missing: minimise the sum of all terms.": (_error, _error),
            "All terms are returned: return the error alone.": (_all_terms, _all_terms),
            "The error is missing: minimise the sum of all terms, return the error.": (
                _quantisers,
                _quantisers,
            ),
        },
    )


check_training(
    __name__,
    trial,
    points=(4, 6),
    lr=0.5,
    hint="For each batch: zero_grad, the quantiser's loss plus the error, backward, step.",
    returns="the_mean_error",
    mean_title="train_epoch returns the mean reconstruction error over all images, without other "
    "terms.",
    steps_title="Two epochs of train_epoch move the parameters down the sum of all terms.",
)
