"""The checks of deliverable 9 that students see."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from helpers.check import check
from helpers.checks import vae
from helpers.checks.common import (
    RUN_AGAIN,
    expect_black_to_white,
    leaf_layers,
    once,
    within_budget,
)
from helpers.checks.tiny import TinyLoss
from helpers.checks.tiny_faces import LATENT_DIM as TINY_DIM
from helpers.checks.tiny_faces import SIDE, local_twin, new_state
from helpers.checks.trial import Trial, expect_mean_loss, expect_right_steps
from helpers.deliverables import FACE_SIZES, get
from helpers.expect import close, expect, expect_number, expect_tensor, fail, likely_cause
from helpers.faces import face_tensors
from helpers.submission import Object, StudentError, Submission

D9 = get("d9_image_variations")
LATENT_DIM = 7


def halved(size: int, times: int) -> int:
    """The side that is left of ``size`` pixels after some strided convolutions."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def new_vae(submission: Submission, image_size: int, hidden_dims: tuple[int, ...]) -> Object:
    """A fresh model of the student's class."""
    return submission.new(
        "VAE", image_size=image_size, latent_dim=LATENT_DIM, hidden_dims=list(hidden_dims)
    )


def small_vae(submission: Submission) -> Object:
    """A fresh model for images (N, 3, 20, 20), in evaluation mode."""
    model = new_vae(submission, 20, (4, 6))
    model.call("eval")
    return model


def pictures(n_images: int, size: int = 20) -> Tensor:
    """(n_images, 3, size, size) in [0, 1], different at each call."""
    return torch.rand(n_images, 3, size, size)


#: Sizes of images, and widths of blocks, on which models are tried out. Odd and even sides come in
#: every order, and the real size is among them.
CASES = ((150, (3, 4, 5, 6, 8)), (97, (4, 5, 6)), (64, (3, 5)), (46, (2, 4, 6, 3)))


# Preparation.


@check("preparation", points=4)
def pictures_are_resized_and_cropped(submission: Submission) -> None:
    """preprocessing resizes the shorter side, cuts out the middle, and makes a tensor in [0, 1]."""
    for height, width, size in ((218, 178, 150), (90, 130, 48), (40, 30, 64)):
        coarse = torch.rand(1, 3, 5, 5)
        smooth = functional.interpolate(
            coarse, (height, width), mode="bilinear", align_corners=True
        )
        pixels = (255 * smooth[0]).round().to(torch.uint8)
        transform = submission.call("preprocessing", size)
        if not isinstance(transform, Object):
            fail(
                "preprocessing should return a transform.",
                "return transforms.Compose([...]), without an image.",
            )
        image = submission.pil_image(pixels.permute(1, 2, 0).contiguous())
        answer = transform.call("", image)
        if isinstance(answer, Object):
            fail(
                f"The transform gives something of type {answer.type_name}, and not a tensor.",
                "transforms.ToTensor() comes last.",
            )
        found = expect_tensor(
            answer,
            (3, size, size),
            what=f"For a picture {width} wide and {height} high and image_size={size}, the result",
            hint="transforms.Resize(image_size), with one number, keeps the proportions; "
            "transforms.CenterCrop(image_size) makes the square.",
        )
        right = _prepared(pixels, size)
        # Ways to interpolate differ by a hundredth on these smooth pictures, other regions by more.
        if float((found - right).abs().mean()) < 0.02:
            continue
        if float(found.max()) > 1.5 or float(found.min()) < -0.1:
            fail(
                f"Pixels lie between {float(found.min()):.3g} and {float(found.max()):.3g}; they "
                "should lie between 0 and 1.",
                "transforms.ToTensor() divides by 255; nothing has to be normalised.",
            )
        squeezed = v2.functional.resize(pixels, [size, size], antialias=True).float() / 255
        cut = v2.functional.center_crop(pixels, [size, size]).float() / 255
        corner = _resized(pixels, size)[:, :size, :size]
        mistakes = {
            "The picture is squeezed into a square: Resize(image_size), with one number, keeps its "
            "proportions.": squeezed,
            "Only the middle is cut out: resize first.": cut,
            "The corner is cut out, and not the middle.": corner,
            "The picture is turned or mirrored at random.": right.flip(2),
        }
        differences = {hint: float((found - w).abs().mean()) for hint, w in mistakes.items()}
        cause = min(differences, key=lambda hint: differences[hint])
        fail(
            "The result is not the middle of the resized picture.",
            cause if differences[cause] < 0.02 else "",
        )


def _resized(pixels: Tensor, size: int) -> Tensor:
    resized: Tensor = v2.functional.resize(pixels, [size], antialias=True).float() / 255
    return resized


def _prepared(pixels: Tensor, size: int) -> Tensor:
    """The middle of a picture (3, h, w), resized by its shorter side."""
    cropped: Tensor = v2.functional.center_crop(_resized(pixels, size), [size, size])
    return cropped


# Architecture.


@check("architecture", points=4)
def encoder_halves_the_image(submission: Submission) -> None:
    """The encoder maps images to (N, F): F numbers are left of the side halved by each block."""
    for size, widths in CASES:
        side = halved(size, len(widths))
        model = new_vae(submission, size, widths)
        for n_images in (3, 2):
            model.tensor(
                "encoder",
                pictures(n_images, size),
                shape=(n_images, widths[-1] * side**2),
                what=f"For image_size={size} and hidden_dims={widths}, the encoder's output",
                hint=f"{len(widths)} strided convolutions leave a side of {side}, with "
                f"{widths[-1]} channels; nn.Flatten() comes last.",
            )


@check("architecture", points=3)
def blocks_are_as_described(submission: Submission) -> None:
    """Each block is a Conv2d (kernel 3, stride 2, padding 1), a BatchNorm2d and a LeakyReLU."""
    size, widths = CASES[0]
    model = new_vae(submission, size, widths)
    leaves = leaf_layers(model, "encoder")
    strided = [layer for layer in leaves if layer.type_name == "Conv2d" and layer.of_torch]
    strided = [layer for layer in strided if _setting(model, layer.path, "stride") == [2, 2]]
    expect(
        len(strided) == len(widths),
        f"For hidden_dims={widths} the encoder has {len(strided)} Conv2d layers with stride 2; it "
        f"should have {len(widths)}.",
    )
    for layer, width in zip(strided, widths, strict=True):
        for name, right in (("kernel_size", [3, 3]), ("padding", [1, 1]), ("out_channels", width)):
            value = _setting(model, layer.path, name)
            expect(
                value == right,
                f"encoder.{layer.path} has {name} {value}; for hidden_dims={widths} it should be "
                f"{right}.",
            )
    starts = [leaves.index(layer) for layer in strided]
    for start, end in zip(starts, [*starts[1:], len(leaves)], strict=True):
        kinds = [layer.type_name for layer in leaves[start:end]]
        for kind in ("BatchNorm2d", "LeakyReLU"):
            expect(
                kind in kinds,
                f"There is no {kind} behind the convolution encoder.{leaves[start].path}.",
            )
    kinds = [layer.type_name for layer in leaf_layers(model, "decoder")]
    for kind, least in (
        ("ConvTranspose2d", len(widths)),
        ("BatchNorm2d", len(widths) - 1),
        ("LeakyReLU", len(widths) - 1),
    ):
        expect(
            kinds.count(kind) >= least,
            f"For hidden_dims={widths} the decoder has {kinds.count(kind)} {kind} layers; it "
            f"should have at least {least}.",
        )


def _setting(model: Object, path: str, name: str) -> object:
    """A setting of a layer of the encoder."""
    return model.get(f"encoder.{path}.{name}")


@check("architecture", points=2)
def heads_are_linear(submission: Submission) -> None:
    """mu_layer and logvar_layer are Linear and map (N, F) to (N, latent_dim)."""
    model = small_vae(submission)
    for name in ("mu_layer", "logvar_layer"):
        outermost = model.layers(name)[0]
        expect(
            outermost.type_name == "Linear",
            f"model.{name} should be an nn.Linear, but it is a {outermost.type_name}.",
            "Means and log variances may be any numbers: no activation behind them.",
        )
        n_features = model.get(f"{name}.in_features")
        if not isinstance(n_features, int) or not 0 < n_features < 10**6:
            fail(f"model.{name} should take the encoder's output.")
        hidden = torch.randn(4, n_features)
        model.tensor(name, hidden, shape=(4, LATENT_DIM), what=f"{name}'s output")


@check("architecture", points=5)
def decoder_comes_back_to_the_size(submission: Submission) -> None:
    """The decoder maps codes (N, latent_dim) to images of exactly the size that went in."""
    for size, widths in CASES:
        model = new_vae(submission, size, widths)
        for n_images in (3, 2):
            codes = torch.randn(n_images, LATENT_DIM)
            found = model.tensor("decoder", codes, what="The decoder's output")
            if tuple(found.shape) == (n_images, 3, size, size):
                continue
            doubled = less = halved(size, len(widths))
            for _ in widths:
                doubled, less = 2 * doubled, 2 * less - 1
            side = found.shape[-1] if found.ndim == 4 else 0
            hint = "output_padding is 1 where the side that it leads to is even, and 0 where odd."
            if found.ndim == 4 and found.shape[1] != 3:
                hint = "The last transposed convolution has 3 channels."
            elif side == doubled:
                hint = "output_padding=1 doubles each side: it must be 0 where the side is odd."
            elif side == less:
                hint = "output_padding must be 1 where the side is even."
            elif size != 150:
                hint += " Compute it from image_size."
            fail(
                f"For image_size={size} and hidden_dims={widths} the decoder gives "
                f"{tuple(found.shape)}; it should give {(n_images, 3, size, size)}.",
                hint,
            )


@check("architecture", points=2)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    expect_black_to_white(small_vae(submission), 10 * torch.randn(50, LATENT_DIM))


# Forward.


def forward(model: Object, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What forward returns, x_hat like the images, mu (N, Z) and logvar (N, Z), or fail."""
    answer = model.call("", images)
    if not isinstance(answer, list) or len(answer) != 3:
        got = f"{len(answer)} things" if isinstance(answer, list) else "one thing"
        fail(f"forward should return x_hat, mu, logvar, but it returned {got}.")
    codes = (len(images), LATENT_DIM)
    x_hat = expect_tensor(answer[0], None, what="The x_hat that forward returns")
    mu = expect_tensor(answer[1], codes, what="The mu that forward returns")
    logvar = expect_tensor(answer[2], codes, what="The logvar that forward returns")
    return x_hat, mu, logvar


@check("forward", points=3)
def draws_have_the_right_mean_and_spread(submission: Submission) -> None:
    """reparameterize(mu, logvar) draws from the normal distribution N(mu, exp(logvar))."""
    vae.expect_right_spread(small_vae(submission))


@check("forward", points=2)
def noise_is_fresh(submission: Submission) -> None:
    """Each call, each image and each dimension gets noise of its own."""
    vae.expect_fresh_noise(small_vae(submission))


@check("forward", points=2)
def gradients_pass_through_the_draw(submission: Submission) -> None:
    """Gradients reach mu and logvar through the draw."""
    vae.expect_sampling_gradients(small_vae(submission))


@check("forward", points=2)
def forward_returns_what_the_layers_give(submission: Submission) -> None:
    """forward(x) returns x_hat, mu, logvar, and these are mu_layer and logvar_layer of x."""
    model, images = small_vae(submission), pictures(4)
    _, mu, logvar = forward(model, images)
    hidden = model.tensor("encoder", images, what="The encoder's output")
    hidden = hidden.flatten(1)  # its shape is another check's matter
    right_mu, right_logvar = (model.tensor(name, hidden) for name in ("mu_layer", "logvar_layer"))
    if close(mu, right_mu) and close(logvar, right_logvar):
        return
    swapped = close(mu, right_logvar) and close(logvar, right_mu)
    fail(
        "The mu and logvar that forward returns are not mu_layer(h) and logvar_layer(h), with h "
        "the encoder's output.",
        "They are swapped." if swapped else "",
    )


@check("forward", points=3)
def forward_decodes_a_sample(submission: Submission) -> None:
    """The image that forward returns is decoded from a sample around mu."""
    model = small_vae(submission)
    vae.still(model)
    images = pictures(4)
    x_hat, mu, _ = forward(model, images)
    decoded = model.tensor("decoder", mu, what="The decoder's output")
    expect(
        close(x_hat, decoded, 1e-3),
        "With a very small variance, forward does not return decoder(mu).",
        "With no spread, z is mu.",
    )
    model = small_vae(submission)
    same = pictures(1).expand(1000, -1, -1, -1).contiguous()
    x_hat, mu, logvar = forward(model, same)
    z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
    ours = model.tensor("decoder", z, what="The decoder's output")
    if x_hat.shape != ours.shape:
        fail("forward does not return what the decoder gives.")
    ratio = float(x_hat.var(dim=0).sum() / ours.var(dim=0).sum())
    expect(
        0.75 < ratio < 1.33,
        f"The variance of forward's images is {ratio:.2f} times that of decoded samples from "
        "N(mu, exp(logvar)).",
        "Is z = reparameterize(mu, logvar) what is decoded?",
    )


# Loss.


def random_case(n_images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_hat, x, mu and logvar as a loss takes them, with nothing in them zero."""
    mu, logvar = 1.5 * torch.randn(n_images, LATENT_DIM), torch.randn(n_images, LATENT_DIM) - 0.5
    return pictures(n_images, 9), pictures(n_images, 9), mu, logvar


def terms(x_hat: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error and KL divergence of each image, (N,) each."""
    return (x_hat - x).square().flatten(1).sum(dim=1), vae.divergence(mu, logvar).sum(dim=1)


@check("loss", points=5)
def loss_is_squared_error_plus_kl(submission: Submission) -> None:
    """loss_function is the squared error plus the KL divergence, the mean over the batch."""
    for n_images in (5, 3):
        case = x_hat, x, mu, logvar = random_case(n_images)
        value = vae.loss(submission, *case)
        error, kl = (float(each.mean()) for each in terms(*case))
        if math.isclose(value, error + kl, rel_tol=1e-4):
            continue
        n_numbers = x[0].numel()
        log_std = float(vae.divergence(mu, 2 * logvar).sum(1).mean())
        variance = float(-0.5 * (1 + logvar - mu**2 - torch.exp(logvar / 2)).sum(1).mean())
        bce = float(functional.binary_cross_entropy(x_hat, x, reduction="sum")) / n_images
        absolute = float((x_hat - x).abs().sum()) / n_images
        causes = {
            "It is summed over the batch: divide by the number of images.": n_images * (error + kl),
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
            "The KL divergence has the wrong sign.": error - kl,
            "The KL divergence is missing.": error,
            "The squared error is missing.": kl,
            "The KL divergence is doubled: is the factor 1/2 there?": error + 2 * kl,
            "The squared error is halved: with a variance of 1/2 its factor is 1.": error / 2 + kl,
            "It is divided by the number of images twice.": (error + kl) / n_images,
            "Only the squared error is averaged over the images.": error + n_images * kl,
            "Only the KL divergence is averaged over the images.": n_images * error + kl,
            "The root of the squared error is taken.": math.sqrt(error) + kl,
            "logvar is treated as the logarithm of the standard deviation.": error + log_std,
            "In the KL divergence, exp(logvar) is the variance.": error + variance,
            "The reconstruction term is a cross-entropy: use the squared error.": bce + kl,
            "The reconstruction term is an absolute error: use its square.": absolute + kl,
        }
        fail(
            f"For {n_images} images loss_function gave {value:.3f}; squared error plus KL "
            f"divergence is {error:.3f} + {kl:.3f} = {error + kl:.3f}.",
            likely_cause(
                value,
                causes,
                "Sum over an image's numbers and a code's dimensions, average over the images.",
            ),
        )


@check("loss", points=2)
def loss_does_not_grow_with_the_batch(submission: Submission) -> None:
    """The same images twice over have the same loss."""
    vae.expect_loss_per_image(submission)


@check("loss", points=2)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for x_hat, mu and logvar."""
    vae.expect_loss_gradients(submission, random_case(4), terms)


# Training and validation.


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    return vae.tiny_trial(submission, lr, "TinyVAE")


@check("training", points=3)
def train_epoch_returns_the_mean_loss(submission: Submission) -> None:
    """train_epoch returns the mean loss over all images of the epoch, as a number."""
    expect_mean_loss(trial(submission, lr=0.0))


@check("training", points=4)
def train_epoch_makes_the_right_steps(submission: Submission) -> None:
    """Two epochs of train_epoch move the parameters just as gradient descent should."""
    expect_right_steps(
        trial(submission, lr=0.1),
        hint="For each batch: zero_grad, x_hat, mu, logvar = model(images), the loss that "
        "train_epoch is given, backward, step.",
    )


class Evaluation:
    """The student's evaluate, on a tiny model with BatchNorm that is in training mode before."""

    def __init__(self, submission: Submission) -> None:
        self.state = new_state()
        # Each batch of its own brightness, the last one smaller: every wrong mean shows.
        self.images = pictures(13, SIDE) * torch.linspace(0.2, 1, 13).view(-1, 1, 1, 1)
        self.model = submission.build("helpers.checks.tiny_faces.TinyFaceVAE")
        self.model.load(self.state)
        self.model.call("train")
        labels = torch.arange(13)
        dataset = submission.build("torch.utils.data.TensorDataset", self.images, labels)
        loader = submission.build("helpers.loader.Loader", dataset, 5)
        criterion = submission.build("helpers.checks.tiny.TinyLoss")
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
    sizes = torch.tensor([5.0, 5.0, 3.0])
    causes = {
        "This is the loss of the last batch alone.": lambda losses: losses[-1],
        "This is the loss of the first batch alone: is `return` inside the loop?": lambda losses: (
            losses[0]
        ),
        "This is the mean of the batches' means: the last batch is smaller, so weigh each loss by "
        "the number of its images.": lambda losses: losses.mean(),
        "This is the sum of the batches' losses.": lambda losses: losses.sum(),
        "This is the sum over images: divide by their number.": lambda losses: (
            losses * sizes
        ).sum(),
        "The batches' means were divided by the number of images.": lambda losses: (
            losses.sum() / 13
        ),
    }
    # In whichever mode: the right one is the next check's matter.
    modes = [evaluation.losses(training=training) for training in (False, True)]
    rights = [float((losses * sizes).sum() / 13) for losses in modes]
    if any(math.isclose(value, right, rel_tol=1e-4) for right in rights):
        return
    cause = [
        hint
        for hint, wrong in causes.items()
        if any(math.isclose(value, float(wrong(losses)), rel_tol=1e-4) for losses in modes)
    ]
    fail(
        f"evaluate returned {value:.5f}; the mean loss over the 13 images is {rights[0]:.5f}.",
        cause[0]
        if cause
        else "Add up the given loss times the number of images, and divide by the images' count.",
    )


@check("validation", points=3)
def evaluate_leaves_the_model_alone(submission: Submission) -> None:
    """evaluate uses evaluation mode, and changes nothing of the model."""
    evaluation = Evaluation(submission)
    state = evaluation.model.state()
    moved = [name for name, value in evaluation.state.items() if not _same(state, name, value)]
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
    wrong = float((evaluation.losses(training=True) * torch.tensor([5.0, 5.0, 3.0])).sum() / 13)
    in_training = isinstance(value, float) and math.isclose(value, wrong, rel_tol=1e-4)
    expect(
        training is False or not in_training,
        "The model is in training mode during the validation.",
        "Call model.eval() at the start of evaluate.",
    )


def _same(state: dict[str, Tensor], name: str, value: Tensor) -> bool:
    return name in state and close(state[name], value, 1e-6)


# Keeping the best.


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
        if _same(kept, "weight", lowest[1]["weight"]) and _same(kept, "bias", lowest[1]["bias"]):
            continue
        losses = ", ".join(f"{each:g}" for each, _ in offered)
        found = [each for each, state in offered if _same(kept, "weight", state["weight"])]
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
            _same(kept, name, first[name]) or not _same(kept, "weight", first["weight"]),
            f"best_model has the parameters of the model that was offered, but not its {name}.",
            "Copy the whole state_dict(): parameters() leaves the running statistics out.",
        )
    before = offers.best.state()
    offers.model.load({name: value + 1 for name, value in first.items()})
    after = offers.best.state()
    expect(
        all(_same(after, name, value) for name, value in before.items()),
        "best_model changes when the training of the other model goes on.",
        "They share tensors: copy them, with load_state_dict or copy.deepcopy.",
    )
    expect(
        _same(kept, "weight", first["weight"]),
        "After the first offer best_model has not the weights that were offered.",
    )


# Variations.


class Variations:
    """The student's generate_variations, on a tiny model of ours that is in training mode before.

    Attributes:
        mu, std: of the image's code in evaluation mode, (Z,).
        codes: those that the images were decoded from, (n, Z).
    """

    def __init__(
        self, submission: Submission, n: int, scale: float, *, strict: bool = True
    ) -> None:
        self.state, self.image = new_state(), torch.rand(3, SIDE, SIDE)
        self.model = submission.build("helpers.checks.tiny_faces.TinyFaceVAE")
        self.model.load(self.state)
        self.model.call("train")
        answer = submission.call(
            "generate_variations", self.model, self.image, n=n, variance_scale=scale
        )
        # Where another check is about their number, any will do.
        given = isinstance(answer, Tensor) and answer.ndim == 4 and len(answer) > 0
        n = len(answer) if given and not strict else n
        what = f"For n={n}, what generate_variations returns"
        images = expect_tensor(answer, (n, 3, SIDE, SIDE), what=what)
        self.mu, self.std = self._posterior(training=False)
        self.mu_in_training, self.std_in_training = self._posterior(training=True)
        weight, bias = self.state["decoder.0.weight"], self.state["decoder.0.bias"]
        self.codes = torch.linalg.lstsq(weight, (images.flatten(1) - bias).T).solution.T

    @torch.no_grad()
    def _posterior(self, *, training: bool) -> tuple[Tensor, Tensor]:
        _, mu, logvar = local_twin(self.state).train(training)(self.image[None])
        return mu[0], torch.exp(logvar[0] / 2)

    def references(self) -> list[tuple[Tensor, Tensor]]:
        """Mean and standard deviation of the code, in evaluation mode and in training mode."""
        return [(self.mu, self.std), (self.mu_in_training, self.std_in_training)]


@check("variations", points=2)
def scale_of_zero_gives_no_variation(submission: Submission) -> None:
    """With a scale of 0 all n variations are the decoded mean; n of them come back."""
    for n in (6, 1):
        found = Variations(submission, n, 0.0)
        spread = float((found.codes - found.codes[:1]).abs().max())
        expect(
            spread < 1e-3,
            "With variance_scale=0 the variations differ.",
            "z = mu + sqrt(variance_scale) * sigma * eps.",
        )
        # In whichever mode: the right one is another check's matter.
        matches = [close(found.codes[0], mu, 1e-3) for mu, _ in found.references()]
        expect(
            any(matches),
            "With variance_scale=0 the variations are not decoder(mu).",
            "Is mu added, and not scaled?",
        )


@check("variations", points=5)
def scale_multiplies_the_variance(submission: Submission) -> None:
    """The codes are drawn from N(mu, scale * sigma^2), for each image noise of its own."""
    n = 2000
    for scale in (0.01, 0.3, 4.0):
        found = Variations(submission, n, scale)
        means, spreads = found.codes.mean(dim=0), found.codes.std(dim=0)
        root = math.sqrt(scale)
        references = found.references()
        # Standard errors: the means' is spread / 45, the spreads' 1.6%.
        if any(
            bool(((means - mu).abs() < 5 * root * std / math.sqrt(n) + 1e-4).all())
            and torch.allclose(spreads, root * std, rtol=0.08)
            for mu, std in references
        ):
            fourth = ((found.codes - means) / spreads).pow(4).mean(dim=0)
            expect(
                bool(((fourth - 3).abs() < 1).all()),
                "The noise is not Gaussian.",
                "Use torch.randn.",
            )
            continue
        causes: dict[str, bool] = {}
        for mu, std in references:
            wrong = {
                "All variations are the same: draw n codes.": torch.zeros(TINY_DIM),
                "The scale multiplies the standard deviation: take its root.": scale * std,
                "exp(logvar) is the variance: the standard deviation is exp(logvar / 2).": root
                * std**2,
                "The spread does not depend on logvar.": torch.full((TINY_DIM,), root),
                "The noise should be normal with a standard deviation of 1: torch.randn, and not "
                "torch.rand.": root * std / math.sqrt(12),
            }
            causes |= {
                k: causes.get(k, False) or torch.allclose(spreads, v, rtol=0.08, atol=1e-4)
                for k, v in wrong.items()
            }
            right_mean = torch.allclose(means, mu, atol=0.2)
            if right_mean and torch.allclose(spreads, std, rtol=0.08):
                causes["The scale has no effect."] = True
            causes["mu is scaled, too."] = torch.allclose(means, root * mu, atol=0.1)
            causes["mu is missing."] = bool((means.abs() < 0.2 * mu.abs().max()).all())
        known = [hint for hint, holds in causes.items() if holds]
        fail(
            f"For variance_scale={scale:g} the codes have a standard deviation of "
            f"{_text(spreads)} around {_text(means)}; it should be {_text(root * found.std)} "
            f"around {_text(found.mu)}.",
            known[0] if known else "z = mu + sqrt(variance_scale) * sigma * eps.",
        )


@check("variations", points=3)
def variations_use_evaluation_mode(submission: Submission) -> None:
    """generate_variations uses evaluation mode, whatever mode the model is in."""
    found = Variations(submission, 6, 0.0, strict=False)
    near = [float((found.codes.mean(dim=0) - mu).abs().max()) for mu, _ in found.references()]
    state = found.model.state()
    moved = [name for name, value in found.state.items() if not _same(state, name, value)]
    trained = near[1] < min(0.01, near[0])
    expect(
        not moved and not trained,
        "The model is in training mode while the variations are made: BatchNorm works with the "
        "statistics of this one image.",
        "Call model.eval() at the start of generate_variations.",
    )


def _text(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())


# The file.


@check("saving", points=4)
def grid_is_saved_as_jpeg(submission: Submission) -> None:
    """save_variations writes a JPEG file that shows the image and all of its variations."""
    side = 32
    colours = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0.5, 0.5, 0.5]]
    )
    flat = colours[:, :, None, None].expand(-1, 3, side, side).contiguous()
    path = submission.ask("build", None, "helpers.checks.tiny_faces.new_path")
    submission.call("save_variations", path, flat[0], flat[1:])
    answer = submission.ask("build", None, "helpers.checks.tiny_faces.take_file", path)
    if not (isinstance(answer, list) and all(isinstance(part, Tensor) for part in answer)):
        fail("The file cannot be read.")
    first, pixels = answer[0].flatten().tolist(), answer[1]
    expect(bool(first), "There is no file at the path that was given.", "Write to `path`.")
    png = first[1:4] == [80, 78, 71]
    expect(
        first[:3] == [255, 216, 255],
        "The file is a PNG, and not a JPEG." if png else "The file is not a JPEG.",
        'save_image(..., path, format="jpeg").' if png else "",
    )
    readable = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.numel() > 0
    expect(readable, "The file's picture cannot be read.")
    areas = []
    for colour in colours:
        near = (pixels.float() / 255 - colour).abs().amax(dim=2) < 0.2
        areas.append(int(near.sum()))
    expect(areas[0] > 0, "The input image is not in the picture.", "Put it before the variations.")
    shown = sum(area > 0.5 * max(areas) for area in areas)
    expect(
        shown == len(colours) and min(areas) > side * side / 4,
        f"Of the image and its {len(colours) - 1} variations the picture shows {shown}.",
        "make_grid takes one tensor (n + 1, 3, h, w).",
    )


# The trained model.


@dataclass(frozen=True)
class Findings:
    """What is found of the trained model, on faces that it has not seen."""

    #: Squared error and KL divergence per image.
    error: float
    kl: float
    #: Share of variations that are closer to their own image than to any other.
    closest: float
    #: Root mean square distance of variations from the decoded mean, by scale.
    spread: dict[float, float]

    @property
    def loss(self) -> float:
        """Squared error plus KL divergence."""
        return self.error + self.kl


N_FACES, N_VARIED, N_VARIATIONS = 150, 20, 4
SCALES = (0.01, 1.0)
_BATCH = 50


@once
def findings(submission: Submission) -> Findings:
    """The trained model's losses and variations on new faces.

    The faces are drawn anew at each judging, since faces whose seed is known could be known, too.
    Means and log variances leave one process; the codes are drawn here and enter another, so that
    what is decoded comes from them alone.
    """
    size = FACE_SIZES["small"].image_size
    seed = 2 + secrets.randbelow(2**31)
    faces = face_tensors(N_FACES, size, seed)
    encoder = submission.trained("vae")
    hidden = encoder.apply("encoder", faces, what="The encoder's output", batch_size=_BATCH)
    mu = encoder.apply("mu_layer", hidden, what="mu_layer's output")
    logvar = encoder.apply("logvar_layer", hidden, what="logvar_layer's output")
    expect(mu.ndim == 2 and mu.shape == logvar.shape, "mu and logvar should both be (N, Z).")
    std = torch.exp(logvar / 2)
    z = mu + std * torch.randn_like(mu)
    few = slice(0, N_VARIED)
    centre, sigma = (each[few].repeat(N_VARIATIONS, 1) for each in (mu, std))
    varied = [centre + math.sqrt(scale) * sigma * torch.randn_like(sigma) for scale in SCALES]
    # Asked for anew: in the grader this is another process, which has never seen an image.
    decoder = submission.trained("vae")
    codes = torch.cat([z, mu[few], *varied])
    x_hat = decoder.apply("decoder", codes, what="The decoder's output", batch_size=_BATCH)
    expect(
        tuple(x_hat.shape) == (len(codes), 3, size, size),
        f"Decoded images should be (N, 3, {size}, {size}).",
    )
    decoded, centres, *variations = x_hat.split(
        [N_FACES, N_VARIED, *[N_VARIED * N_VARIATIONS] * len(SCALES)]
    )
    error, kl = terms(decoded, faces, mu, logvar)
    expect(math.isfinite(float(error.mean() + kl.mean())), "The trained model's loss is infinite.")
    distances = torch.cdist(variations[0].flatten(1), faces[few].flatten(1))
    own = torch.arange(N_VARIED).repeat(N_VARIATIONS)
    spread = {
        scale: float((images - centres.repeat(N_VARIATIONS, 1, 1, 1)).square().mean().sqrt())
        for scale, images in zip(SCALES, variations, strict=True)
    }
    return Findings(
        error=float(error.mean()),
        kl=float(kl.mean()),
        closest=float((distances.argmin(dim=1) == own).float().mean()),
        spread=spread,
    )


#: A model that always answers with the mean face loses about 2,900.
LEARNED_SOMETHING = 2_000.0
SMALL = 'Was it trained with size = "small"?'


@check("result", points=2)
def model_has_learned(submission: Submission) -> str:
    """The trained model does clearly better than the mean face would."""
    loss = findings(submission).loss
    expect(
        loss < LEARNED_SOMETHING,
        f"Loss {loss:.0f} on new faces: the mean face alone would reach about 2,900.",
        f"{SMALL} {RUN_AGAIN}",
    )
    return f"Loss {loss:.0f}."


@check("result", points=6)
def loss_on_new_faces_is_low(submission: Submission) -> str:
    """The trained model's loss on faces that it has not seen is low enough."""
    found = findings(submission)
    note = f"Loss {found.loss:.0f} on new faces"
    expect(
        found.loss < D9.max_loss,
        f"{note}; it must be below {D9.max_loss:g}.",
        "Is the best epoch's model the one that was kept?",
    )
    return f"{note} (must be below {D9.max_loss:g}), of which the KL divergence is {found.kl:.0f}."


@check("result", points=3)
def variations_stay_close_to_their_image(submission: Submission) -> str:
    """Variations with a scale of 0.01 are closer to their own image than to any other."""
    share = findings(submission).closest
    least = D9["min_closest"]
    expect(
        share >= least,
        f"{share:.0%} of the variations are closest to their own image; it should be at least "
        f"{least:.0%}.",
    )
    return f"{share:.0%} of the variations are closest to their own image."


@check("result", points=1)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    return within_budget(submission.checkpoint("vae"), D9)


@check("result", points=0)
def handed_in_is_the_best_epoch(submission: Submission) -> str:
    """The model's loss agrees with the lowest that your validation reported."""
    losses = submission.losses("vae")
    if not losses:
        raise StudentError("unattempted", "There is no record of a training yet.")
    measured, best = findings(submission).loss, min(losses)
    # Other faces and other draws of the codes: two standard errors of the mean are 5%.
    expect(
        math.isclose(measured, best, rel_tol=0.15),
        f"The best epoch reported {best:.0f}, but the model's loss is {measured:.0f}.",
        "Are the best epoch's weights those that were kept? Does evaluate average right?",
    )
    epoch = f"epoch {losses.index(best) + 1} of {len(losses)}"
    return f"The best was {epoch}: {best:.0f}; measured {measured:.0f}."
