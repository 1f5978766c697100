"""The checks of deliverable 1 that students see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from helpers.check import check
from helpers.checks.tiny import TinyAutoencoder
from helpers.data import mnist_tensors
from helpers.deliverables import get
from helpers.expect import CheckFailedError, close, expect, expect_number, expect_tensor, fail
from helpers.submission import Layer, Object, StudentError, Submission

D1 = get("d1_autoencoder")
INPUT_DIM = 784
#: Layers that only change a shape.
SHAPE_LAYERS = ("Flatten", "Unflatten", "Identity")


def new_model(submission: Submission, latent_dim: int = 2, hidden_dim: int = 32) -> Object:
    """A fresh, small model of the student's class."""
    return submission.new(
        "Autoencoder", latent_dim=latent_dim, hidden_dim=hidden_dim, input_dim=INPUT_DIM
    )


def random_images(n_images: int) -> Tensor:
    """(n_images, 1, 28, 28) in [0, 1], different at each call."""
    return torch.rand(n_images, 1, 28, 28)


# Architecture.


@check("architecture", points=4)
def encoder_maps_images_to_codes(submission: Submission) -> None:
    """The encoder maps images (N, 1, 28, 28) to codes (N, latent_dim)."""
    for latent_dim in (2, 5):
        model = new_model(submission, latent_dim)
        for n_images in (7, 1):
            what = f"For {n_images} images and latent_dim={latent_dim}, the encoder's output"
            codes = model.tensor("encoder", random_images(n_images), what=what)
            shape, got = (n_images, latent_dim), tuple(codes.shape)
            hint = "Is latent_dim used?"
            if len(got) == 3:
                hint = "nn.Flatten(2, 3) keeps the channel axis: nn.Flatten() starts at axis 1."
            elif len(got) == 1:
                hint = "The batch axis is gone: nn.Flatten() keeps it, nn.Flatten(0) does not."
            expect(got == shape, f"{what} should have shape {shape}, but it has {got}.", hint)


@check("architecture", points=4)
def decoder_maps_codes_to_images(submission: Submission) -> None:
    """The decoder maps codes (N, latent_dim) to images (N, 1, 28, 28)."""
    for latent_dim in (2, 5):
        model = new_model(submission, latent_dim)
        for n_images in (7, 1):
            model.tensor(
                "decoder",
                torch.randn(n_images, latent_dim),
                shape=(n_images, 1, 28, 28),
                what=f"For {n_images} codes with latent_dim={latent_dim}, the decoder's output",
                hint="Bring the 784 numbers into an image with nn.Unflatten(1, (1, 28, 28)).",
            )


@check("architecture", points=4)
def forward_decodes_what_it_encodes(submission: Submission) -> None:
    """forward(x) is decoder(encoder(x)): one tensor of images."""
    model = new_model(submission)
    images = random_images(7)
    output = model.tensor("", images, shape=(7, 1, 28, 28), what="The output of forward")
    codes = model.tensor("encoder", images, what="The encoder's output")
    decoded = model.tensor("decoder", codes, what="The decoder's output")
    expect(
        close(output, decoded),
        "forward(x) differs from decoder(encoder(x)).",
        "Does forward return the images, and change nothing on the way?",
    )


@check("architecture", points=4)
def layers_are_linear_and_leaky_relu(submission: Submission) -> None:
    """Encoder and decoder are nn.Sequential of Linear and LeakyReLU, with a Sigmoid at the end."""
    model = new_model(submission)
    for part in ("encoder", "decoder"):
        outermost, *inner = model.layers(part)
        expect(
            outermost.type_name == "Sequential",
            f"model.{part} should be an nn.Sequential, but it is a {outermost.type_name}.",
        )
        leaves = [layer for layer in inner if not layer.container]
        allowed = {"Linear", "LeakyReLU", *SHAPE_LAYERS}
        if part == "decoder" and _last(leaves) == "Sigmoid":
            allowed.add("Sigmoid")
        for layer in leaves:
            # A module of the student's own that only reshapes is fine.
            own_reshape = not layer.of_torch and layer.n_parameters == 0
            if layer.type_name not in allowed and not own_reshape:
                fail(
                    f"The {part} has a {layer.type_name} (at {part}.{layer.path}).",
                    "This deliverable asks for Linear and LeakyReLU only, and a Sigmoid at the "
                    "decoder's end.",
                )
        kinds = [layer.type_name for layer in leaves]
        expect(kinds.count("Linear") >= 2, f"The {part} needs at least two Linear layers.")
        expect(
            "LeakyReLU" in kinds,
            f"The {part} has no LeakyReLU.",
            "Linear layers without a nonlinearity between them are together just one Linear.",
        )


@check("architecture", points=3)
def codes_are_not_activated(submission: Submission) -> None:
    """The encoder ends in a Linear layer, so that codes may lie anywhere in the plane."""
    leaves = [layer for layer in new_model(submission).layers("encoder") if not layer.container]
    last = _last(leaves)
    expect(
        last == "Linear",
        f"The encoder ends in {last or 'no layer at all'}; it should end in Linear.",
        "An activation there squeezes the codes into one corner of the latent plane.",
    )


@check("architecture", points=4)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    model = new_model(submission)
    state = model.state("decoder")
    weights = [name for name, value in state.items() if value.ndim == 2]
    expect(bool(weights), "The decoder has no Linear layer.")
    # With a very large last layer a Sigmoid is all but 0 or 1, whatever comes before it.
    last = weights[-1].removesuffix("weight")
    state.update({k: 1e4 * v for k, v in state.items() if k.startswith(last)})
    model.load(state, "decoder")
    pixels = model.tensor("decoder", 10 * torch.randn(50, 2), what="The decoder's output")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        fail(
            f"Pixels should lie in [0, 1], but the decoder can give {low:.3g} to {high:.3g}.",
            "Is the Sigmoid at its end missing?",
        )
    if low > 0.05 or high < 0.95:
        fail(
            f"The decoder's pixels cannot leave [{low:.2f}, {high:.2f}].",
            "Is there a second Sigmoid, or another activation just before it?",
        )


def _last(leaves: list[Layer]) -> str:
    """The class of the last layer that computes something."""
    kinds = [layer.type_name for layer in leaves if layer.of_torch]
    kinds = [kind for kind in kinds if kind not in SHAPE_LAYERS]
    return kinds[-1] if kinds else ""


# Settings.


@check("settings", points=3)
def settings_are_within_the_rules(submission: Submission) -> None:
    """latent_dim, hidden_dim, batch_size and n_epochs are whole numbers within the rules."""
    values = {name: submission.number(name) for name in _SETTINGS}
    for name, value in values.items():
        expect(
            value >= 1 and value == int(value),
            f"`{name}` should be a whole number of at least 1, but it is {value:g}.",
        )
    expect(
        values["latent_dim"] == D1.latent_dim,
        f"`latent_dim` is {values['latent_dim']:g}; hand in a model with {D1.latent_dim}.",
    )
    expect(
        values["n_epochs"] <= D1.max_epochs,
        f"`n_epochs` is {values['n_epochs']:g}; at most {D1.max_epochs} are allowed.",
    )


_SETTINGS = ("latent_dim", "hidden_dim", "batch_size", "n_epochs")


@check("settings", points=3)
def transform_gives_floats_from_0_to_1(submission: Submission) -> None:
    """The transform turns a 28 x 28 image into float32 of shape (1, 28, 28), from 0 to 1."""
    pixels = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    output = submission.call("transform", submission.pil_image(pixels))
    hint = "transforms.ToTensor() does all of this."
    tensor = expect_tensor(output, (1, 28, 28), what="The transformed image", hint=hint)
    expect(tensor.dtype is torch.float32, f"Its dtype should be float32, not {tensor.dtype}.", hint)
    expected = pixels[None].float() / 255
    if close(tensor, 255 * expected):
        fail("The transformed image still goes from 0 to 255.", "Divide by 255, or use ToTensor.")
    expect(
        close(tensor, expected),
        f"The transformed image goes from {float(tensor.min()):.2f} to {float(tensor.max()):.2f}, "
        "and should hold each pixel divided by 255.",
        hint,
    )


@check("settings", points=2)
def model_is_within_its_budget(submission: Submission) -> str:
    """`model` has no more trainable parameters than allowed."""
    return within_budget(submission.object("model").parameters())


def within_budget(tensors: dict[str, Tensor]) -> str:
    """Fail if there are too many numbers in ``tensors``; else a note."""
    count = sum(tensor.numel() for tensor in tensors.values())
    text = f"{count:,} parameters; at most {D1.max_parameters:,} are allowed."
    expect(count > 0, "The model has no parameters.", "Are its layers kept in a plain list?")
    expect(count <= D1.max_parameters, text, "Choose a smaller `hidden_dim` or fewer layers.")
    return text


# Loss and optimiser.


@check("loss", points=4)
def criterion_is_the_mean_squared_error(submission: Submission) -> None:
    """`criterion(x_hat, x)` is the mean of (x_hat - x)^2 over all pixels of all images."""
    criterion = submission.object("criterion")
    for n_images in (6, 3):
        x_hat, x = random_images(n_images), random_images(n_images)
        value = criterion.number("", x_hat, x, what="criterion(x_hat, x)")
        squared = float(functional.mse_loss(x_hat, x))
        if math.isclose(value, squared, rel_tol=1e-4):
            continue
        causes = {
            "It is a sum: use the mean over all pixels and images.": squared * x.numel(),
            "It is summed over pixels: use the mean over them too.": squared * x[0].numel(),
            "It is the mean absolute error (L1).": float(functional.l1_loss(x_hat, x)),
            "It is the root of it: leave out the square root.": math.sqrt(squared),
            "It is the binary cross-entropy.": float(functional.binary_cross_entropy(x_hat, x)),
        }
        cause = [hint for hint, wrong in causes.items() if math.isclose(value, wrong, rel_tol=1e-4)]
        fail(
            f"For {n_images} images criterion gave {value:.4f}, and should give {squared:.4f}.",
            cause[0] if cause else "nn.MSELoss() is what is asked for.",
        )


@check("loss", points=4)
def optimizer_updates_the_whole_model(submission: Submission) -> None:
    """`optimizer` is Adam (or one of its relatives) and updates every parameter of `model`."""
    optimizer, model = submission.object("optimizer"), submission.object("model")
    relatives = ("Adam", "AdamW", "NAdam", "RAdam")
    expect(
        optimizer.type_name in relatives,
        f"`optimizer` is of type {optimizer.type_name}; use torch.optim.Adam.",
    )
    held, count = optimizer.holds(model), len(model.parameters())
    expect(
        held == count,
        f"The optimizer updates {held} of the model's {count} parameter tensors.",
        "Was the model built again after the optimizer? Run this cell again too.",
    )


# The training loop, tried out on a model of the kit's own.


class Trial:
    """A student's ``train_epoch`` on a tiny autoencoder, and the same computed here.

    Thirteen images in batches of five, the last one smaller, each batch of its own brightness, so
    that every wrong way to average gives another number. SGD with momentum, so that an optimiser
    made anew shows. The gradient's norm stays below 0.5, so that clipping it at 1 changes nothing.
    """

    BATCH_SIZE = 5

    def __init__(self, submission: Submission, lr: float) -> None:
        self.images = random_images(13) * torch.linspace(0.2, 1.0, 13).view(-1, 1, 1, 1)
        self.lr = lr
        self._submission = submission
        self._start = TinyAutoencoder().state_dict()
        self.model = submission.build("helpers.checks.tiny.TinyAutoencoder")
        self.model.load(self._start)
        dataset = submission.build(
            "torch.utils.data.TensorDataset", self.images, torch.zeros(13, dtype=torch.int64)
        )
        parameters = self.model.call("parameters")
        self._arguments = (
            self.model,
            submission.build("helpers.loader.Loader", dataset, self.BATCH_SIZE),
            submission.build("torch.nn.MSELoss"),
            submission.build("torch.optim.SGD", parameters, lr=lr, momentum=0.9),
            submission.build("torch.device", "cpu"),
        )

    def epoch(self) -> Any:
        """One epoch by the student's code; what it returned."""
        return self._submission.call("train_epoch", *self._arguments)

    def batch_losses(self) -> Tensor:
        """The loss of each batch, before any update, (3,)."""
        model = TinyAutoencoder()
        model.load_state_dict(self._start)
        with torch.no_grad():
            losses = [functional.mse_loss(model(x), x) for x in self.images.split(self.BATCH_SIZE)]
        return torch.stack(losses)

    def expected(self, n_epochs: int, mistake: str = "") -> dict[str, Tensor]:
        """The parameters after ``n_epochs``, trained here, perhaps with a mistake."""
        model = TinyAutoencoder()
        model.load_state_dict(self._start)
        if mistake == "no step":
            return model.state_dict()
        sgd = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)
        for _ in range(n_epochs):
            if mistake == "new optimizer":
                sgd = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)
            if mistake == "cleared once an epoch":
                sgd.zero_grad()
            batches = self.images.split(self.BATCH_SIZE)
            for x in batches[:1] if mistake == "one batch" else batches:
                if mistake not in ("never cleared", "cleared once an epoch"):
                    sgd.zero_grad()
                loss = functional.mse_loss(model(x), x)
                loss.backward()
                sgd.step()
        return model.state_dict()


_STEP_MISTAKES = {
    "no step": "The parameters did not move at all: are loss.backward() and optimizer.step() both "
    "called, and in this order, with zero_grad() before them?",
    "never cleared": "Gradients pile up from batch to batch: call optimizer.zero_grad() before "
    "loss.backward().",
    "cleared once an epoch": "Gradients are cleared once an epoch: call optimizer.zero_grad() for "
    "each batch.",
    "one batch": "Only the first batch was used: is `return` inside the loop?",
    "new optimizer": "A new optimizer was made in each epoch: use the one that you are given.",
}


@check("training", points=6)
def train_epoch_returns_the_mean_loss(submission: Submission) -> None:
    """train_epoch returns the mean loss over all images of the epoch, as a number."""
    trial = Trial(submission, lr=0.0)  # nothing moves, so that the mean is known beforehand
    value = expect_number(trial.epoch(), what="What train_epoch returns")
    losses = trial.batch_losses()
    sizes = torch.tensor([5.0, 5.0, 3.0])
    right = float((losses * sizes).sum() / 13)
    # Tolerance: float32 sums in another order differ by 1e-6; the wrong means by more than 1e-2.
    if math.isclose(value, right, rel_tol=1e-4):
        return
    causes = {
        "This is the loss of the last batch alone.": float(losses[-1]),
        "This is the loss of the first batch alone: is `return` inside the loop?": float(losses[0]),
        "This is the mean of the batches' means: the last batch is smaller, so weigh each loss by "
        "the number of its images.": float(losses.mean()),
        "This is the sum of the batches' losses: divide by their number of images.": float(
            losses.sum()
        ),
        "This is the sum over images: divide by their number.": right * 13,
        "The batches' means were divided by the number of images: multiply each by the number of "
        "its images first.": float(losses.sum() / 13),
    }
    cause = [hint for hint, wrong in causes.items() if math.isclose(value, wrong, rel_tol=1e-4)]
    fail(
        f"train_epoch returned {value:.5f}; the mean loss over the 13 images is {right:.5f}.",
        cause[0] if cause else "Add up loss * number of images, and divide by the images' count.",
    )


@check("training", points=8)
def train_epoch_makes_the_right_steps(submission: Submission) -> None:
    """Two epochs of train_epoch move the parameters just as gradient descent should."""
    trial = Trial(submission, lr=1.0)
    for _ in range(2):
        trial.epoch()
    state = trial.model.state()
    if _same(state, trial.expected(2)):
        return
    for mistake, message in _STEP_MISTAKES.items():
        if _same(state, trial.expected(2, mistake)):
            fail(message)
    fail(
        "After two epochs the parameters are not where gradient descent leads.",
        "For each batch: zero_grad, forward, loss against the images themselves, backward, step.",
    )


def _same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two state dicts agree: float32 rounding is 1e-6 here, each mistake above 1e-4."""
    return state.keys() == other.keys() and all(close(state[k], other[k], 2e-5) for k in other)


# The trained model.


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of a trained model."""

    training: float
    test: float


#: Errors that are known already, since several checks of a submission need them.
_known: WeakKeyDictionary[Submission, Errors | Exception] = WeakKeyDictionary()


def reconstruction_errors(submission: Submission) -> Errors:
    """The trained model's errors, computed here from its codes and images.

    The codes leave one process and enter another, so that what is decoded comes from them alone.
    """
    if submission not in _known:
        try:
            _known[submission] = _reconstruction_errors(submission)
        except (CheckFailedError, StudentError) as failure:
            _known[submission] = failure
    known = _known[submission]
    if isinstance(known, Exception):
        raise known
    return known


@cache
def _digits(*, train: bool) -> Tensor:
    """All images, (N, 1, 28, 28); kept, since a grader needs them for each submission."""
    return mnist_tensors(train=train)[0]


def _reconstruction_errors(submission: Submission) -> Errors:
    splits = _digits(train=True), _digits(train=False)
    model = submission.trained("autoencoder")
    codes = [model.apply("encoder", images, what="The encoder's output") for images in splits]
    for images, code in zip(splits, codes, strict=True):
        shape, got = (len(images), D1.latent_dim), tuple(code.shape)
        expect(got == shape, f"The codes of {len(images):,} images should be {shape}, not {got}.")
    # Asked for anew: in the grader this is another process, which has never seen an image.
    model = submission.trained("autoencoder")
    errors = []
    for images, code in zip(splits, codes, strict=True):
        outputs = model.apply("decoder", code, what="The decoder's output")
        expect(outputs.shape == images.shape, "The decoded images should be (N, 1, 28, 28).")
        errors.append(float(functional.mse_loss(outputs, images)))
    return Errors(*errors)


#: A model that always answers with the mean image has an error of 0.067.
LEARNED_SOMETHING = 0.055


@check("result", points=5)
def model_has_learned(submission: Submission) -> str:
    """The trained model does clearly better than the mean image would."""
    error = reconstruction_errors(submission).training
    expect(
        error < LEARNED_SOMETHING,
        f"Training MSE {error:.4f}: hardly better than always giving the mean image, or worse.",
        "Was the training cell run after your last change? Delete the folder `checkpoints` and run "
        "it again.",
    )
    return f"Training MSE {error:.4f}."


@check("result", points=14)
def training_error_is_low(submission: Submission) -> str:
    """The trained model's mean squared error on the training images is below the threshold."""
    error = reconstruction_errors(submission).training
    expect(
        error < D1.max_loss,
        f"Training MSE {error:.4f}; it must be below {D1.max_loss}.",
        "Wider hidden layers, a learning rate near 1e-3 or smaller batches help."
        if error < LEARNED_SOMETHING
        else "",
    )
    return f"Training MSE {error:.4f} (must be below {D1.max_loss})."


@check("result", points=3)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    return within_budget(submission.checkpoint("autoencoder"))


@check("result", points=0)
def reported_loss_agrees(submission: Submission) -> str:
    """The loss that your training reported last agrees with the one measured now."""
    losses = submission.losses("autoencoder")
    if not losses:
        raise StudentError("unattempted", "There is no record of a training yet.")
    error = reconstruction_errors(submission).training
    # The mean over the last epoch lags behind its end, by 1 to 2 percent for the reference; with a
    # learning rate that is still high it swings more.
    expect(
        math.isclose(losses[-1], error, rel_tol=0.1),
        f"The last epoch reported {losses[-1]:.4f}, but the model's error is {error:.4f}.",
        "Does train_epoch average right? Was the model changed after its training?",
    )
    return f"Reported {losses[-1]:.4f}, measured {error:.4f}."
