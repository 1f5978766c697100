"""The checks of deliverable 1 that students can see."""

import math

import torch
from torch import Tensor
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
    expect_tensor,
    fail,
)
from helpers.checks.common import architecture, settings
from helpers.checks.common.images import digits, random_images
from helpers.checks.common.kept import keep_result
from helpers.checks.common.results import (
    Errors,
    check_budget,
    check_learned,
    check_reported,
    expect_low,
    mean_squared_errors,
    once,
)
from helpers.checks.common.returned import fitting_trial
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import Trial, mse_trial
from helpers.deliverables import get

D1 = get("d1_autoencoder")
INPUT_DIM = 784


def new_model(submission: Submission, latent_dim: int = 2, hidden_dim: int = 32) -> Object:
    """A fresh, small model of the student's class."""
    return submission.new(
        "Autoencoder", latent_dim=latent_dim, hidden_dim=hidden_dim, input_dim=INPUT_DIM
    )


@check("architecture", points=4)
def encoder_maps_images_to_codes(submission: Submission) -> None:
    """The encoder maps images (N, 1, 28, 28) to codes (N, latent_dim)."""
    for latent_dim in (2, 5):
        model = new_model(submission, latent_dim)
        for n_images in (7, 1):
            what = f"For {n_images} images and latent_dim={latent_dim}, the encoder's output"
            images = random_images(n_images)
            inputs = architecture.encoder_takes(model, images)
            expect(
                inputs.shape == images.shape,
                "The encoder only takes images that are flat already.",
                "Begin it with nn.Flatten(), which makes a vector of each image.",
            )
            codes = architecture.in_eval_mode(model, "encoder", images, what=what)
            shape, got = (n_images, latent_dim), tuple(codes.shape)
            hint = ""
            if got == (n_images, 1, latent_dim):
                hint = "nn.Flatten(2, 3) keeps the channel axis: nn.Flatten() starts at axis 1."
            elif got == (latent_dim,):
                hint = "The batch axis is gone, which squeeze() takes away if there is one image."
            elif latent_dim not in got:
                hint = "Is latent_dim used?"
            expect(got == shape, f"{what} should have shape {shape}, but it has {got}.", hint)


@check("architecture", points=4)
def decoder_maps_codes_to_images(submission: Submission) -> None:
    """The decoder maps codes (N, latent_dim) to images (N, 1, 28, 28)."""
    for latent_dim in (2, 5):
        model = new_model(submission, latent_dim)
        for n_images in (7, 1):
            what = f"For {n_images} codes with latent_dim={latent_dim}, the decoder's output"
            inputs = _codes_for(model, torch.randn(n_images, latent_dim))
            output = architecture.in_eval_mode(model, "decoder", inputs, what=what)
            shape, got = (n_images, 1, 28, 28), tuple(output.shape)
            hint = ""
            if output.numel() == n_images * INPUT_DIM:
                hint = (
                    "Bring the 784 numbers into an image of one channel with "
                    "nn.Unflatten(1, (1, 28, 28))."
                )
            expect(got == shape, f"{what} should have shape {shape}, but it has {got}.", hint)


def _codes_for(model: Object, codes: Tensor) -> Tensor:
    """Codes (N, Z), or (N, 1, Z) if the model's own encoder gives such codes to its decoder."""
    inputs = architecture.decoder_takes(model, codes)
    if inputs.ndim == codes.ndim:
        return codes
    try:
        own = architecture.encode_images(model, random_images(2))
    except (CheckFailedError, StudentError):
        return codes
    return inputs if own.ndim == inputs.ndim else codes


@check("architecture", points=4)
def forward_decodes_what_it_encodes(submission: Submission) -> None:
    """forward(x) is decoder(encoder(x)): one tensor of images."""
    architecture.expect_decoded_code(new_model(submission))


@check("architecture", points=4)
def layers_are_linear_and_leaky_relu(submission: Submission) -> None:
    """Encoder and decoder are nn.Sequential of Linear layers only, with LeakyReLU between them."""
    model = new_model(submission)
    images = architecture.encoder_takes(model, random_images(7))
    inputs = {"encoder": images, "decoder": _codes_for(model, torch.randn(7, 2))}
    for part in inputs:
        architecture.expect_sequential(model, part)
        hint = "This deliverable asks for Linear and LeakyReLU only, and a Sigmoid at the end."
        kinds = architecture.expect_only_layers_run(
            model, part, inputs[part], {"Linear", "LeakyReLU"}, hint, training=True, any_end=True
        )
        expect(kinds.count("Linear") >= 2, f"The {part} needs at least two Linear layers.")
        expect(
            kinds[0] == "Linear",
            f"The {part} begins with {kinds[0]}.",
            "LeakyReLU belongs between two Linear layers.",
        )
        architecture.expect_activated_between(kinds, "Linear", part)


@check("architecture", points=3)
def codes_are_not_activated(submission: Submission) -> None:
    """The encoder ends in a Linear layer, so that codes may lie anywhere in the plane."""
    model = new_model(submission)
    images = architecture.encoder_takes(model, random_images(7))
    end = architecture.steps_after_weights(architecture.computed(model, "encoder", images))
    if end:
        name = architecture.layer_name(end[-1])
        fail(
            f"The encoder ends in {name}; it should end in Linear.",
            "Codes may lie anywhere in the plane, and what follows the last Linear layer bends it.",
        )


@check("architecture", points=4)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    model = new_model(submission)
    codes = _codes_for(model, 10 * torch.randn(50, 2))
    architecture.expect_black_to_white(model, codes)
    architecture.expect_sigmoid_alone(model, codes)


@check("settings", points=3)
def settings_are_within_the_rules(submission: Submission) -> None:
    """latent_dim, hidden_dim, batch_size and n_epochs are whole numbers within the rules."""
    values = settings.expect_whole_numbers(
        submission, "latent_dim", "hidden_dim", "batch_size", "n_epochs"
    )
    latent_dim = values["latent_dim"]
    expect(
        latent_dim == D1["latent_dim"],
        f"`latent_dim` is {latent_dim}; hand in a model with {D1['latent_dim']}.",
    )
    settings.expect_epochs(values["n_epochs"], D1)


@check("settings", points=3)
def transform_gives_floats_from_0_to_1(submission: Submission) -> None:
    """The transform turns a 28 x 28 image into float32 of shape (1, 28, 28), from 0 to 1."""
    pixels = torch.randint(0, 256, (28, 28), dtype=torch.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    image = submission.pil_image(pixels)
    expect(
        submission.object("transform").type_name != "type",
        "`transform` is a class, and not yet a transform.",
        "Make one of it with brackets: transforms.ToTensor().",
    )
    kept = keep_result(submission, "transform", image)
    what, hint = "The transformed image", "transforms.ToTensor() does all of this."
    tensor = expect_tensor(kept.get("result"), (1, 28, 28), what=what, hint=hint)
    dtype = kept.get("dtype")
    expect(dtype == "torch.float32", f"{what} should hold numbers of type float32.", hint)
    # One that flips half of the images would pass by luck one time in a million.
    for _ in range(20):
        again = expect_tensor(submission.call("transform", image), (1, 28, 28), what=what)
        expect(close(again, tensor), f"{what} changes from call to call.", "Change none by chance.")
    right = pixels[None].float() / 255
    expect_close(
        tensor,
        right,
        f"{what} goes from {float(tensor.min()):.2f} to {float(tensor.max()):.2f}, and should hold "
        "each pixel divided by 255.",
        {
            "It still goes from 0 to 255: divide by 255, or use ToTensor.": 255 * right,
            "Black and white are exchanged.": 1 - right,
            "Rows and columns are exchanged.": right.mT,
            "It is mirrored.": right.flip(2),
            "It is turned upside down.": right.flip(1),
            "Its pixels are rounded to 0 and 1.": (right > 0.5).float(),
            "Its pixels are normalised to go from -1 to 1.": 2 * right - 1,
        },
        hint,
    )


settings.check_model_budget(__name__, points=2)


@check("loss", points=4)
def criterion_is_the_mean_squared_error(submission: Submission) -> None:
    """`criterion(x_hat, x)` is the mean of (x_hat - x)^2 over all pixels of all images."""
    criterion = submission.object("criterion")
    expect(
        criterion.type_name != "type",
        "`criterion` is a class, and not yet a loss.",
        "Make one of it with brackets: nn.MSELoss().",
    )
    for n_images in (6, 3):
        x_hat, x = 0.8 * random_images(n_images), random_images(n_images)
        answer = criterion.call("", x_hat, x)
        value = expect_number(answer, what="criterion(x_hat, x)")
        squared = float(functional.mse_loss(x_hat, x))
        expect_close(
            value,
            squared,
            f"For {n_images} images criterion gave {value:.4f}, and should give {squared:.4f}.",
            {
                "It is a sum: use the mean over all pixels and images.": squared * x.numel(),
                "It is summed over pixels: use the mean over them too.": squared * x[0].numel(),
                "It is summed over images: use the mean over them too.": squared * n_images,
                "It is half of it.": squared / 2,
                "It is the negative of it.": -squared,
                "It is the mean absolute error (L1).": float(functional.l1_loss(x_hat, x)),
                "It is the root of it: leave out the square root.": math.sqrt(squared),
                "The differences are not squared.": float((x_hat - x).mean()),
                "It is the binary cross-entropy.": float(functional.binary_cross_entropy(x_hat, x)),
            },
            "nn.MSELoss() is what is asked for.",
        )
        expect(
            isinstance(answer, Tensor),
            "criterion(x_hat, x) is a plain number, which has no gradient.",
            "Return the tensor itself, without .item().",
        )
        slope = criterion.differentiate("", x_hat, x, wrt=[0]).inputs[0]
        expect(
            slope is not None and close(slope * x.numel(), 2 * (x_hat - x), 1e-3),
            "criterion(x_hat, x) does not have the gradient of the mean squared error.",
            "Is something detached in it?",
        )


@check("loss", points=4)
def optimizer_updates_the_whole_model(submission: Submission) -> None:
    """`optimizer` is Adam (or one of its relatives) and updates every parameter of `model`."""
    settings.expect_adam(submission)


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model."""
    return fitting_trial(
        lambda gives: mse_trial(submission, lr, gives=gives), lambda: new_model(submission)
    )


check_training(
    __name__,
    trial,
    points=(6, 8),
    lr=1.0,
    hint="For each batch: zero_grad, forward, loss against the images themselves, backward, step.",
)


@once
def errors(submission: Submission) -> Errors:
    """The trained model's mean squared errors, computed here from its codes and images."""
    pairs = [(images, images) for images in (digits(train=True), digits(train=False))]
    return mean_squared_errors(submission, "autoencoder", pairs)


#: A model that always answers with the mean image has an error of 0.067.
LEARNED_SOMETHING = 0.055

check_learned(
    __name__,
    errors,
    points=5,
    below=LEARNED_SOMETHING,
    figure="Training MSE {:.4f}",
    instead=": hardly better than always giving the mean image, or worse.",
)


@check("result", points=14)
def training_error_is_low(submission: Submission) -> str:
    """The trained model's mean squared error on the training images is below the threshold."""
    error, size = errors(submission).training, errors(submission).code_size
    expect(
        size == D1["latent_dim"],
        f"The trained model's codes hold {size} numbers; hand in a model with {D1['latent_dim']}.",
    )
    hint = "Wider hidden layers, a learning rate near 1e-3 or smaller batches help."
    if error >= LEARNED_SOMETHING:
        hint = ""
    return expect_low(f"Training MSE {error:.4f}", error, D1.max_loss, hint)


check_budget(__name__, points=3)
# The mean over the last epoch lags behind its end, by 1 to 2 percent for the reference; with a
# learning rate that is still high it swings more.
check_reported(__name__, errors, tolerance=0.1)
