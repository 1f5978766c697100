"""The loss of deliverables 7 and 8: the negative ELBO, summed over the images of a batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import Submission, close, expect, expect_number, fail
from helpers.checks.common import tiny
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.trial import BatchLoss, Trial, vae_trial
from helpers.checks.common.vae_loss import divergence, negative_elbo

#: x_hat, x, mu and logvar.
Case = tuple[Tensor, Tensor, Tensor, Tensor]
#: Makes a random case of some images.
MakeCase = Callable[[int], Case]


@dataclass(frozen=True)
class SummedLoss:
    """A student's loss function.

    Attributes:
        function: its name.
        make_case: makes the tensors that it is tried with.
        x_hat, mu, logvar: the names of its arguments.
        images_first: whether the images come before the reconstructions.
    """

    function: str
    make_case: MakeCase
    x_hat: str = "recon_x"
    mu: str = "mu"
    logvar: str = "logvar"
    images_first: bool = False

    def arguments(self, case: Case) -> tuple[Tensor, ...]:
        """The arguments of the student's function, in its order."""
        x_hat, x, mu, logvar = case
        return (x, x_hat, mu, logvar) if self.images_first else (x_hat, x, mu, logvar)

    def value(self, submission: Submission, case: Case, **options: float) -> float:
        """What the student's function returns, or fail."""
        answer = submission.call(self.function, *self.arguments(case), **options)
        return expect_number(answer, what=f"What {self.function} returns")

    def expect_value(self, submission: Submission, *, or_averaged: bool = False) -> None:
        """Fail unless the loss is the cross-entropy plus the KL divergence.

        ``or_averaged`` says whether a mean over the images passes, which costs another check.
        """
        for n_images in (5, 3, 1):
            case = self.make_case(n_images)
            value = self.value(submission, case)
            expect(
                _equal(self.value(submission, case), value),
                f"{self.function} gives another loss at each call with the same images.",
                "Draw nothing in it, and keep nothing from one call to the next.",
            )
            bce, kl = (float(each.sum()) for each in negative_elbo(*case))
            averaged = or_averaged and _equal(value, (bce + kl) / n_images)
            if averaged or _equal(value, bce + kl):
                continue
            fail(
                f"For {n_images} images {self.function} gave {value:.3f}; cross-entropy plus KL "
                f"divergence is {bce:.3f} + {kl:.3f} = {bce + kl:.3f}.",
                self._cause(submission) or self._weights(submission),
            )

    def expect_gradients(self, submission: Submission) -> None:
        """Fail unless gradients pass through the loss, and are right if its value is."""
        case = self.make_case(4)
        arguments = self.arguments(case)
        expect(
            isinstance(submission.call(self.function, *arguments), Tensor),
            f"What {self.function} returns is not a tensor, so it has no gradient.",
            "Return the sum as it is: no .item(), no float() and no NumPy.",
        )
        expect_kept(submission, self.function, *arguments)
        x_hat, x, *rest = case
        inputs = [tensor.clone().requires_grad_() for tensor in (x_hat, *rest)]
        bce, kl = negative_elbo(inputs[0], x, *inputs[1:])
        total = (bce + kl).sum()
        right = torch.autograd.grad(total, inputs)
        wrt = (1, 2, 3) if self.images_first else (0, 2, 3)
        answer = submission.differentiate(self.function, *arguments, wrt=wrt)
        value = answer.output
        # Another value costs its own check, and has other gradients.
        judged = value.numel() == 1 and _equal(float(value), total.item())
        names = (self.x_hat, self.mu, self.logvar)
        for name, gradient, expected in zip(names, answer.inputs, right, strict=True):
            expect(
                gradient is not None,
                f"No gradient of the loss reaches {name}.",
                "Is something detached, or computed outside torch?",
            )
            expect(
                not judged or (gradient is not None and close(gradient, expected, 1e-3)),
                f"The value of the loss is right, but not its gradient for {name}.",
                "Is a part of it detached?",
            )

    def _cause(self, submission: Submission) -> str:
        """The mistake that explains what is returned for two cases, or ""."""
        known: list[str] = []
        for attempt in range(2):
            case = self.make_case(5)
            value = self.value(submission, case)
            near = [
                cause
                for cause, wrong in self._causes(case).items()
                if math.isclose(value, wrong, rel_tol=1e-5)
            ]
            known = [cause for cause in near if attempt == 0 or cause in known]
        return known[0] if known else ""

    def _causes(self, case: Case) -> dict[str, float]:
        """What common mistakes give for a case, by a sentence about each."""
        x_hat, x, mu, logvar = case
        bce, kl = (float(each.sum()) for each in negative_elbo(*case))
        var, n_images = logvar.exp(), len(x)
        logits = functional.binary_cross_entropy_with_logits(x_hat, x, reduction="sum")
        exchanged = functional.binary_cross_entropy(x, x_hat, reduction="sum")
        first = {
            "The cross-entropy is missing.": 0.0,
            "The cross-entropy has the wrong sign.": -bce,
            "The cross-entropy is averaged over everything: sum it.": bce / x.numel(),
            "The cross-entropy is averaged over the pixels: sum it.": bce * n_images / x.numel(),
            "The cross-entropy is averaged over the images: sum it.": bce / n_images,
            f"x and {self.x_hat} are exchanged in the cross-entropy.": float(exchanged),
            f"{self.x_hat} is taken for logits: it has been through a sigmoid already.": float(
                logits
            ),
            "The reconstruction term is a squared error.": float((x_hat - x).square().sum()),
            "The reconstruction term is a mean squared error.": float((x_hat - x).square().mean()),
            "The reconstruction term is an absolute error.": float((x_hat - x).abs().sum()),
            f"The part (1 - x) log(1 - {self.x_hat}) is missing.": -float((x * x_hat.log()).sum()),
            f"The part x log({self.x_hat}) is missing.": -float(
                ((1 - x) * (1 - x_hat).log()).sum()
            ),
        }
        second = {
            "The KL divergence is missing.": 0.0,
            "The KL divergence has the wrong sign.": -kl,
            "The KL divergence is averaged over everything: sum it.": kl / mu.numel(),
            "The KL divergence is averaged over the dimensions: sum it.": kl
            * n_images
            / mu.numel(),
            "The KL divergence is averaged over the images: sum it.": kl / n_images,
            f"{self.logvar} is treated as the logarithm of the standard deviation.": float(
                divergence(mu, 2 * logvar).sum()
            ),
            f"{self.mu} and {self.logvar} are exchanged in the KL divergence.": float(
                divergence(logvar, mu).sum()
            ),
            f"In the KL divergence, exp({self.logvar}) is the variance: take no root of it.": _half(
                mu**2 + var.sqrt() - 1 - logvar
            ),
            f"In the KL divergence, exp({self.logvar}) is the variance: do not square it.": _half(
                mu**2 + var**2 - 1 - logvar
            ),
            f"In the KL divergence, {self.logvar} stands where exp({self.logvar}) belongs.": _half(
                mu**2 - 1
            ),
            f"In the KL divergence, {self.mu} should be squared.": _half(mu + var - 1 - logvar),
            f"In the KL divergence, |{self.mu}| stands where its square belongs.": _half(
                mu.abs() + var - 1 - logvar
            ),
            f"In the KL divergence, the square of {self.mu} is missing.": _half(var - 1 - logvar),
            f"In the KL divergence, the square of {self.mu} has the wrong sign.": _half(
                var - 1 - logvar - mu**2
            ),
            "In the KL divergence, the 1 is missing.": _half(mu**2 + var - logvar),
            "In the KL divergence, the 1 has the wrong sign.": _half(mu**2 + var + 1 - logvar),
            f"In the KL divergence, the term {self.logvar} is missing.": _half(mu**2 + var - 1),
            f"In the KL divergence, the term {self.logvar} has the wrong sign.": _half(
                mu**2 + var - 1 + logvar
            ),
            f"In the KL divergence, the term exp({self.logvar}) is missing.": _half(
                mu**2 - 1 - logvar
            ),
            "This is the KL divergence of the prior from q, the other way round.": _half(
                (1 + mu**2) / var - 1 + logvar
            ),
        }
        return (
            {cause: wrong + kl for cause, wrong in first.items()}
            | {cause: bce + wrong for cause, wrong in second.items()}
            | {
                "It is averaged over the images: sum it.": (bce + kl) / n_images,
                "Both terms are averaged over everything: sum them.": bce / x.numel()
                + kl / mu.numel(),
                "It is the ELBO itself: the loss is minus that.": -bce - kl,
            }
        )

    def _weights(self, submission: Submission) -> str:
        """The cause, if one of the two terms counts more or less than once."""
        factors = []
        for _ in range(3):
            case = self.make_case(4)
            bce, kl = (float(each.sum()) for each in negative_elbo(*case))
            value = self.value(submission, case)
            factors.append(((value - bce) / kl, (value - kl) / bce, value / (bce + kl)))
        kl_doubled = "Is the factor 1/2 there?"
        names = ("The KL divergence", "The cross-entropy", "The whole loss")
        for name, found in zip(names, zip(*factors, strict=True), strict=True):
            if max(found) - min(found) < 2e-3 * abs(found[0]) and abs(found[0] - 1) > 0.01:
                hint = kl_doubled if name == names[0] and abs(found[0] - 2) < 0.01 else ""
                return f"{name} counts {found[0]:.3g} times, and not once. {hint}".strip()
        return ""


def _half(values: Tensor) -> float:
    return 0.5 * float(values.sum())


def _equal(value: float, other: float) -> bool:
    # float32 sums in another order differ by 1e-6.
    return math.isclose(value, other, rel_tol=1e-4)


def summed_trial(
    submission: Submission, lr: float, *, summed: str, sizes: Sequence[int] = ()
) -> Trial:
    """A trial of a train_epoch with a summed loss, which reports a mean over the images.

    See :func:`helpers.checks.common.trial.vae_trial` for the arguments.
    """
    trial = vae_trial(submission, lr, sizes=sizes, summed=summed)

    def mean(exchanged: tuple[int, int, int, int] = (0, 1, 2, 3)) -> BatchLoss:
        def loss(network: nn.Module, _: Tensor, images: Tensor, labels: Tensor) -> Tensor:
            x_hat, mu, logvar, *_more = network(images)
            given = (x_hat, images, mu, logvar)
            return tiny.TinyLoss()(*(given[position] for position in exchanged))

        return loss

    def times(factor: Callable[[int], float], loss: BatchLoss) -> BatchLoss:
        return lambda network, x, images, labels: (
            factor(len(images)) * loss(network, x, images, labels)
        )

    def elbo(network: nn.Module, _: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        x_hat, mu, logvar, *_more = network(images)
        return torch.stack(negative_elbo(x_hat, images, mu, logvar)).sum() / len(images)

    def cross_entropy(network: nn.Module, _: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        x_hat = network(images)[0].nan_to_num(0.5)  # it raises for NaN, after large steps
        return functional.binary_cross_entropy(x_hat, images, reduction="sum") / len(images)

    def per_batch(_: int) -> float:
        return len(trial.images) / len(trial.counts)

    def total(loss: BatchLoss) -> BatchLoss:
        return times(float, loss)

    right = mean()
    reported: dict[str, Callable[[int], float]] = {
        "This is the loss per batch: divide by the number of images, not of batches.": per_batch,
        "The loss is a sum already: do not multiply it by the number of images.": float,
        "The loss is divided by the number of images twice.": lambda n_images: 1 / n_images,
    }
    trial.wrong = {
        **trial.wrong,
        **{cause: (total(right), times(factor, right)) for cause, factor in reported.items()},
        "The loss is divided by the number of images before backward(): differentiate the sum.": (
            right,
            times(lambda n_images: 1 / n_images, right),
        ),
        "The mean and the log variance are exchanged in the call of the loss.": (
            total(mean((0, 1, 3, 2))),
            mean((0, 1, 3, 2)),
        ),
        "In the call of the loss its arguments are exchanged: the images and reconstructions, and "
        "the mean and log variance too.": (total(mean((1, 0, 3, 2))), mean((1, 0, 3, 2))),
        "The images take the place of the reconstructions in the call of the loss.": (
            total(mean((1, 1, 2, 3))),
            mean((1, 1, 2, 3)),
        ),
        "A loss of your own is used: call the loss_function that you are given.": (
            total(elbo),
            elbo,
        ),
        "The loss is the cross-entropy alone: call the loss_function that you are given.": (
            total(cross_entropy),
            cross_entropy,
        ),
    }
    return trial
