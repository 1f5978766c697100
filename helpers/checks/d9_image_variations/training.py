"""The checks of the loss, the training, the validation, and of keeping the best model."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    Submission,
    check,
    close,
    expect,
    expect_number,
    fail,
    likely_cause,
)
from helpers.checks.common import vae_loss
from helpers.checks.common.tiny import TinyLoss
from helpers.checks.common.tiny_faces import SIDE, local_twin, new_state
from helpers.checks.common.trial import (
    Trial,
    check_training,
    mean_causes,
    mean_over_images,
    vae_trial,
)
from helpers.checks.common.vae_loss import (
    divergence,
    expect_loss_gradients,
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
            "The squared error is averaged over the channels or counted for one of them: sum it "
            "over all three.": error / 3 + kl,
            "The squared error is missing.": kl,
            "The squared error is halved: with a variance of 1/2 its factor is 1.": error / 2 + kl,
            "The root of the squared error is taken.": math.sqrt(error) + kl,
            "The reconstruction term is a cross-entropy: use the squared error.": bce + kl,
            "The reconstruction term is an absolute error: use its square.": absolute + kl,
        }
        expect_two_terms(
            vae_loss.loss(submission, *case),
            (error, kl),
            (mu, logvar),
            causes,
            "Sum over an image's numbers and a code's dimensions, average over the images.",
            term="squared error",
        )


@check("loss", points=2)
def loss_does_not_grow_with_the_batch(submission: Submission) -> None:
    """The same images twice over have the same loss."""
    expect_loss_per_image(submission)


@check("loss", points=2)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for x_hat, mu and logvar."""
    expect_loss_gradients(submission, random_case(4), terms)


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    return vae_trial(submission, lr)


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
        self.state = new_state()
        # Each batch of its own brightness, the last one smaller: every wrong mean shows.
        self.images = pictures(13, SIDE) * torch.linspace(0.2, 1, 13).view(-1, 1, 1, 1)
        self.model = submission.build("helpers.checks.common.tiny_faces.TinyFaceVAE")
        self.model.load(self.state)
        self.model.call("train")
        labels = torch.arange(13)
        dataset = submission.build("torch.utils.data.TensorDataset", self.images, labels)
        loader = submission.build("helpers.data.Loader", dataset, 5)
        criterion = submission.build("helpers.checks.common.tiny.TinyLoss")
        device = submission.build("torch.device", "cpu")
        self.value = submission.call("evaluate", self.model, loader, criterion, device)

    @torch.no_grad()
    def losses(self, *, training: bool) -> Tensor:
        """The loss of each batch, (3,), computed here in one of the modes."""
        twin = local_twin(self.state).train(training)
        batches = self.images.split(5)
        losses = []
        for batch in batches:
            x_hat, mu, logvar = twin(batch)
            losses.append(TinyLoss()(x_hat, batch, mu, logvar))
        return torch.stack(losses)


@check("validation", points=3)
def evaluate_returns_the_mean_loss(submission: Submission) -> None:
    """evaluate returns the mean loss over all images, as a number."""
    evaluation = Evaluation(submission)
    value = expect_number(evaluation.value, what="What evaluate returns")
    # In whichever mode: the right one is the next check's matter.
    modes = [evaluation.losses(training=training) for training in (False, True)]
    if any(math.isclose(value, mean_over_images(losses), rel_tol=1e-4) for losses in modes):
        return
    known = [likely_cause(value, mean_causes(losses)) for losses in modes]
    otherwise = "Add up the given loss times the number of images, and divide by the images' count."
    fail(
        f"evaluate returned {value:.5f}; the mean loss over the 13 images is "
        f"{mean_over_images(modes[0]):.5f}.",
        next(filter(None, known), otherwise),
    )


@check("validation", points=3)
def evaluate_leaves_the_model_alone(submission: Submission) -> None:
    """evaluate uses evaluation mode, and changes nothing of the model."""
    evaluation = Evaluation(submission)
    state = evaluation.model.state()
    moved = [
        name for name, value in evaluation.state.items() if not same_values(state, name, value)
    ]
    if any("running" in name or "tracked" in name for name in moved):
        fail(
            "evaluate has changed the running means and variances of BatchNorm.",
            "Call model.eval() at its start.",
        )
    if moved:
        fail(f"evaluate has changed the model: {moved[0]}.", "There is no step in a validation.")
    training = evaluation.model.get("training")
    value = evaluation.value
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    wrong = mean_over_images(evaluation.losses(training=True))
    in_training = isinstance(value, float) and math.isclose(value, wrong, rel_tol=1e-4)
    expect(
        training is False or not in_training,
        "The model is in training mode during the validation.",
        "Call model.eval() at the start of evaluate.",
    )


def same_values(state: dict[str, Tensor], name: str, value: Tensor) -> bool:
    """Whether a state dict has this tensor under this name."""
    return name in state and close(state[name], value, 1e-6)


class Offers:
    """A KeepBest of the student's with a model of ours, to which others are offered."""

    def __init__(self, submission: Submission) -> None:
        self.best = submission.build("torch.nn.BatchNorm1d", 4)
        self.model = submission.build("torch.nn.BatchNorm1d", 4)
        self.keeper = submission.new("KeepBest", self.best)

    def offer(self, loss: float) -> dict[str, Tensor]:
        """Offer a model with random weights and this loss; the weights."""
        state = {
            "weight": torch.randn(4),
            "bias": torch.randn(4),
            "running_mean": torch.randn(4),
            "running_var": torch.rand(4) + 0.5,
            "num_batches_tracked": torch.tensor(3),
        }
        self.model.load(state)
        self.keeper.call("offer", self.model, loss)
        return state


@check("best", points=3)
def lowest_loss_is_kept(submission: Submission) -> None:
    """best_model has the parameters of the offer with the lowest loss so far."""
    offers = Offers(submission)
    offered: list[tuple[float, dict[str, Tensor]]] = []
    for loss in (7.5, 5.2, 6.1, 5.9, 3.3, 3.4, 8.8):
        offered.append((loss, offers.offer(loss)))
        kept = offers.best.state()
        lowest = min(offered, key=lambda item: item[0])
        if same_values(kept, "weight", lowest[1]["weight"]) and same_values(
            kept, "bias", lowest[1]["bias"]
        ):
            continue
        losses = ", ".join(f"{each:g}" for each, _ in offered)
        found = [each for each, state in offered if same_values(kept, "weight", state["weight"])]
        hint = "Copy the weights into self.best_model with load_state_dict."
        if found:
            hint = f"The weights are those of the loss {found[-1]:g}. "
            last = found[-1] == loss
            hint += "Note down the lowest loss so far." if last else "Lower losses are better."
        fail(f"After the losses {losses} best_model has not the weights of the lowest.", hint)


@check("best", points=2)
def kept_weights_are_a_full_copy(submission: Submission) -> None:
    """What is kept is a copy of the whole state, which stays as it is when training goes on."""
    offers = Offers(submission)
    first = offers.offer(2.0)
    kept = offers.best.state()
    for name in ("running_mean", "running_var"):
        expect(
            same_values(kept, name, first[name])
            or not same_values(kept, "weight", first["weight"]),
            f"best_model has the parameters of the model that was offered, but not its {name}.",
            "Copy the whole state_dict(): parameters() leaves the running statistics out.",
        )
    before = offers.best.state()
    offers.model.load({name: value + 1 for name, value in first.items()})
    after = offers.best.state()
    expect(
        all(same_values(after, name, value) for name, value in before.items()),
        "best_model changes when the training of the other model goes on.",
        "They share tensors: copy them, with load_state_dict or copy.deepcopy.",
    )
    expect(
        same_values(kept, "weight", first["weight"]),
        "After the first offer best_model has not the weights that were offered.",
    )
