"""The checks of the loss, of the training and of the validation."""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import (
    Submission,
    check,
    close,
    expect,
    expect_number,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common import vae_loss
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.kept import keep_result
from helpers.checks.common.means import COUNTS, mean_causes, mean_over_images
from helpers.checks.common.tiny import TinyLoss
from helpers.checks.common.tiny_faces import OFFSET, SIDE, local_twin, new_state
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import EXCHANGED, Trial, vae_trial
from helpers.checks.common.vae_loss import (
    divergence,
    expect_loss_per_image,
    expect_two_terms,
)
from helpers.checks.d9_image_variations.model import LATENT_DIM, pictures


def random_case(n_images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_hat, x, mu and logvar as a loss takes them, with nothing in them zero."""
    mu, logvar = 1.5 * torch.randn(n_images, LATENT_DIM), torch.randn(n_images, LATENT_DIM) - 0.5
    return pictures(n_images, 9), pictures(n_images, 9), mu, logvar


def terms(x_hat: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error and KL divergence of each image, (N,) each."""
    return (x_hat - x).square().flatten(1).sum(dim=1), divergence(mu, logvar).sum(dim=1)


@check("loss", points=5)
def loss_is_squared_error_plus_kl(submission: Submission) -> None:
    """loss_function is the squared error plus the KL divergence, the mean over the batch."""
    for n_images in (5, 3):
        case = x_hat, x, mu, logvar = random_case(n_images)
        error, kl = (float(each.mean()) for each in terms(*case))
        n_numbers = x[0].numel()
        bce = float(functional.binary_cross_entropy(x_hat, x, reduction="sum")) / n_images
        absolute = float((x_hat - x).abs().sum()) / n_images
        causes = {
            "The squared error is averaged over the numbers of an image: sum it over them.": error
            / n_numbers
            + kl,
            "Both terms are averaged over the numbers of an image.": (error + kl) / n_numbers,
            "The KL divergence is averaged over the code's dimensions: sum it over them.": error
            + kl / LATENT_DIM,
            "Both terms are averaged over everything: sum over an image and its code.": error
            / n_numbers
            + kl / LATENT_DIM,
            "The squared error is averaged over the channels: sum it.": error / 3 + kl,
            "The squared error is missing.": kl,
            "The squared error is halved: with a variance of 1/2 its factor is 1.": error / 2 + kl,
            "The squared error is that of one channel: sum it over all three.": float(
                (x_hat - x)[:, 0].square().sum()
            )
            / n_images
            + kl,
            "The root of the squared error is taken.": float(terms(*case)[0].sqrt().mean()) + kl,
            "The root of the mean squared error is taken.": math.sqrt(error) + kl,
            "The reconstruction term is a cross-entropy: use the squared error.": bce + kl,
            "The reconstruction term is an absolute error: use its square.": absolute + kl,
            "The KL divergence has a weight: both terms count alike.": error + 4 * kl,
            "The KL divergence has a small weight: both terms count alike.": error + kl / 10,
        }
        value = vae_loss.loss(submission, *case)
        vae_loss.expect_the_same_again(submission, case, value)
        expect_two_terms(
            value,
            (error, kl),
            (mu, logvar),
            causes,
            "",
            term="squared error",
        )


@check("loss", points=2)
def loss_does_not_grow_with_the_batch(submission: Submission) -> None:
    """The same images twice over have the same loss."""
    expect_loss_per_image(submission)


@check("loss", points=1)
def loss_has_gradients(submission: Submission) -> None:
    """The loss has gradients for x_hat, mu and logvar, which are those of its value."""
    value = submission.call("loss_function", *random_case(2))
    expect(
        isinstance(value, Tensor),
        "loss_function returns no tensor, so no gradients can be computed through it.",
        "Leave .item() and float() out: the training needs the tensor.",
    )
    x_hat, *rest = random_case(4)
    case = 0.2 + 0.6 * x_hat, *rest
    found = submission.differentiate("loss_function", *case, wrt=(0, 2, 3)).inputs
    expect(
        any(gradient is not None and bool(gradient.any()) for gradient in found),
        "The loss has no gradients at all.",
        "Compute it with torch operations: no .item(), no .detach(), no torch.no_grad.",
    )
    # Compared with the student's own loss: whether that is right is another check's matter. Short
    # steps and a wider tolerance for x_hat, where the loss may have kinks.
    for (name, position, size, error), gradient in zip(
        (("x_hat", 0, 0.002, 1e-3), ("mu", 2, 0.05, 1e-3), ("logvar", 3, 0.05, 1e-3)),
        found,
        strict=True,
    ):
        if gradient is not None:
            expect_tensor(gradient, case[position].shape, what=f"The gradient for {name}")
        for _ in range(8):  # a single step may lie across the gradient
            step = size * (2 * torch.rand_like(case[position]) - 1)
            ends = [vae_loss.loss(submission, *_shifted(case, position, s * step)) for s in (1, -1)]
            by_gradient = 0.0 if gradient is None else float((gradient * step).sum())
            expect(
                math.isclose((ends[0] - ends[1]) / 2, by_gradient, rel_tol=0.1, abs_tol=error),
                f"The loss depends on {name}, but its gradient for {name} is "
                f"{'missing' if gradient is None else 'not that of its value'}.",
                "Is a part of it detached, or made a number with .item()?",
            )


def _shifted(case: tuple[Tensor, ...], position: int, step: Tensor) -> list[Tensor]:
    """The arguments of a loss, one of them moved by a step."""
    return [each + step if n == position else each for n, each in enumerate(case)]


@check("loss", points=1)
def loss_keeps_what_it_is_given(submission: Submission) -> None:
    """loss_function leaves the tensors that it is given as they are."""
    expect_kept(submission, "loss_function", *random_case(4))


#: The loss of a model for a batch of images.
BatchLoss = Callable[[nn.Module, Tensor], Tensor]


def _given(model: nn.Module, images: Tensor) -> Tensor:
    x_hat, mu, logvar = model(images)
    return TinyLoss()(x_hat, images, mu, logvar)


def _exchanged(model: nn.Module, images: Tensor) -> Tensor:
    x_hat, mu, logvar = model(images)
    return TinyLoss()(images, x_hat, mu, logvar)


def _codes_exchanged(model: nn.Module, images: Tensor) -> Tensor:
    x_hat, mu, logvar = model(images)
    return TinyLoss()(x_hat, images, logvar, mu)


def _squared_error(model: nn.Module, images: Tensor) -> Tensor:
    return functional.mse_loss(model(images)[0], images)


def _own_loss(model: nn.Module, images: Tensor) -> Tensor:
    x_hat, mu, logvar = model(images)
    error, kl = terms(x_hat, images, mu, logvar)
    return (error + kl).mean()


#: What may be computed in the place of the loss that is given; "{}" is the function's name.
_OTHERS: dict[str, BatchLoss] = {
    EXCHANGED: _exchanged,
    "mu and logvar are exchanged in the call of the loss.": _codes_exchanged,
    "This is a squared error: use the loss that {} is given.": _squared_error,
    "This is a loss of your own: use the one that {} is given.": _own_loss,
}


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    the_trial = vae_trial(submission, lr)
    the_trial.wrong = {
        **the_trial.wrong,
        **{cause.format("train_epoch"): (_shown(loss),) * 2 for cause, loss in _OTHERS.items()},
    }
    return the_trial


def _shown(loss: BatchLoss) -> Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]:
    """A loss as a trial wants it, which also tells what the model is shown, and the labels."""

    def of_batch(model: nn.Module, _: Tensor, images: Tensor, __: Tensor) -> Tensor:
        return loss(model, images)

    return of_batch


check_training(
    __name__,
    trial,
    points=(3, 4),
    lr=0.1,
    hint="For each batch: zero_grad, x_hat, mu, logvar = model(images), the loss that "
    "train_epoch is given, backward, step.",
)


class Evaluation:
    """The student's evaluate, on a tiny model with BatchNorm that is in training mode before."""

    def __init__(self, submission: Submission) -> None:
        self.autocast = False
        while True:
            self.state = new_state()
            self.state["decoder.0.weight"] *= 10  # so that a code and its mean differ in their loss
            # Each batch of its own brightness, the last one smaller.
            self.images = pictures(13, SIDE) * torch.linspace(0.2, 1, 13).view(-1, 1, 1, 1)
            if self._every_wrong_mean_shows():
                break
        here = "helpers.checks.common.tiny_faces"
        self.model = submission.build(f"{here}.TinyFaceVAE", OFFSET)
        self.model.load(self.state)
        self.model.call("train")
        labels = torch.arange(13)
        dataset = submission.build("torch.utils.data.TensorDataset", self.images, labels)
        loader = submission.build("helpers.data.Loader", dataset, 5)
        criterion = submission.build("helpers.checks.common.tiny.TinyLoss")
        device = submission.build("torch.device", "cpu")
        call = keep_result(submission, "evaluate", self.model, loader, criterion, device)
        self.value, self.keeps_graph = call.get("result"), call.get("keeps_graph") is True
        used = self.model.get("with_autocast")
        self.autocast = isinstance(used, list) and True in used

    def _every_wrong_mean_shows(self) -> bool:
        """Whether no wrong mean is near the right one of a mode, by chance."""
        by_mode = self.by_mode().values()
        right = [mean_over_images(losses) for losses in by_mode]
        wrong = [value for losses in by_mode for value in mean_causes(losses).values()]
        return not any(math.isclose(a, b, rel_tol=2e-3) for a in right for b in wrong)

    @torch.no_grad()
    def losses(
        self,
        loss: BatchLoss = _given,
        *,
        encoder: bool = False,
        decoder: bool = False,
        of_the_mean: bool = False,
    ) -> Tensor:
        """The loss of each batch, (3,), computed here.

        Args:
            encoder, decoder: whether this part is in training mode.
            of_the_mean: whether mu itself is decoded.
        """
        twin = local_twin(self.state, offset=0.0 if of_the_mean else OFFSET)
        twin.encoder.train(encoder)
        twin.decoder.train(decoder)
        with torch.autocast("cpu", enabled=self.autocast):
            losses = [loss(twin, batch).float() for batch in self.images.split(5)]
        return torch.stack(losses)

    def by_mode(self) -> dict[tuple[bool, bool], Tensor]:
        """The loss of each batch, by whether the encoder and the decoder are in training mode."""
        modes = product((False, True), (False, True))
        return {mode: self.losses(encoder=mode[0], decoder=mode[1]) for mode in modes}

    def agrees(self, value: float, losses: Tensor) -> bool:
        """Whether a value is the mean of these losses; autocast's numbers have three digits."""
        tolerance = 5e-3 if self.autocast else 1e-4
        return math.isclose(value, mean_over_images(losses), rel_tol=tolerance)


@check("validation", points=3)
def evaluate_returns_the_mean_loss(submission: Submission) -> None:
    """evaluate returns the mean loss over all images, as a number."""
    evaluation = Evaluation(submission)
    value = expect_number(evaluation.value, what="What evaluate returns")
    expect(
        not evaluation.keeps_graph,
        "evaluate returns a tensor with the graph of its gradients.",
        "Use torch.no_grad(), and .item() for a number.",
    )
    # In whichever mode: the right one is the next check's matter.
    by_mode = evaluation.by_mode().values()
    if any(evaluation.agrees(value, losses) for losses in by_mode):
        return
    causes = {
        cause.format("evaluate"): mean_over_images(evaluation.losses(loss))
        for cause, loss in _OTHERS.items()
    }
    causes["This is the loss of decoder(mu): model(images) decodes a draw."] = mean_over_images(
        evaluation.losses(of_the_mean=True)
    )
    right = evaluation.losses()
    causes["The last batch has no part in it."] = mean_over_images(right[:-1], COUNTS[:-1])
    known = [likely_cause(value, causes | mean_causes(losses)) for losses in by_mode]
    fail(
        f"evaluate returned {value:.5f}; the mean loss over the 13 images is "
        f"{mean_over_images(evaluation.losses()):.5f}.",
        next(filter(None, known), ""),
    )


@check("validation", points=3)
def evaluate_leaves_the_model_alone(submission: Submission) -> None:
    """evaluate uses evaluation mode, and changes nothing of the model."""
    evaluation = Evaluation(submission)
    changed = moved(evaluation.state, evaluation.model.state())
    buffers = [name for name in changed if "running" in name or "tracked" in name]
    call = "Call model.eval() at the start of evaluate."
    if buffers and buffers == changed and all(name.startswith("decoder") for name in buffers):
        fail("The decoder is in training mode during the validation.", call)
    if buffers and buffers == changed:
        fail("evaluate has changed the running means and variances of BatchNorm.", call)
    if changed:
        fail(f"evaluate has changed the model: {changed[0]}.", "There is no step in a validation.")
    if isinstance(evaluation.model.get("mu_layer.weight.grad"), Tensor):
        fail("evaluate computes gradients.", "There is no backward() in a validation.")
    value = evaluation.value
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    by_mode = evaluation.by_mode()
    right = by_mode.pop((False, False))
    expect(
        not isinstance(value, float)
        or evaluation.agrees(value, right)
        or not any(evaluation.agrees(value, losses) for losses in by_mode.values()),
        "The model is in training mode during the validation.",
        call,
    )


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """The names of tensors in a state dict that have changed or are missing."""
    return [
        name
        for name, value in before.items()
        if name not in after or not close(after[name], value, 1e-6)
    ]
