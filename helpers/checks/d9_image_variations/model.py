"""The checks of the model: its input, its layers, its forward."""

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from helpers.checking import (
    Object,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_tensor,
    expect_tensors,
    fail,
    likely_cause,
)
from helpers.checks.common.architecture import expect_black_to_white, leaf_layers
from helpers.checks.common.sampling import check_sampling
from helpers.checks.common.vae_model import expect_linear, expect_samples_decoded, still
from helpers.deliverables import get

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
        if _alike(found, right):
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
        fail(
            "The result is not the middle of the resized picture.",
            likely_cause(found, mistakes, same=_alike),
        )


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether pictures are the same region of a smooth one, however they were interpolated."""
    return one.shape == other.shape and float((one - other).abs().mean()) < 0.02


def _resized(pixels: Tensor, size: int) -> Tensor:
    resized: Tensor = v2.functional.resize(pixels, [size], antialias=True).float() / 255
    return resized


def _prepared(pixels: Tensor, size: int) -> Tensor:
    """The middle of a picture (3, h, w), resized by its shorter side."""
    cropped: Tensor = v2.functional.center_crop(_resized(pixels, size), [size, size])
    return cropped


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

    def setting(path: str, name: str) -> object:
        return model.get(f"encoder.{path}.{name}")

    strided = [layer for layer in strided if setting(layer.path, "stride") == [2, 2]]
    expect(
        len(strided) == len(widths),
        f"For hidden_dims={widths} the encoder has {len(strided)} Conv2d layers with stride 2; it "
        f"should have {len(widths)}.",
    )
    for layer, width in zip(strided, widths, strict=True):
        for name, right in (("kernel_size", [3, 3]), ("padding", [1, 1]), ("out_channels", width)):
            value = setting(layer.path, name)
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


@check("architecture", points=2)
def heads_are_linear(submission: Submission) -> None:
    """mu_layer and logvar_layer are Linear and map (N, F) to (N, latent_dim)."""
    model = small_vae(submission)
    for name in ("mu_layer", "logvar_layer"):
        expect_linear(model, name)
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


check_sampling(
    __name__,
    small_vae,
    cell="forward",
    points=(3, 2, 2),
    title="reparameterize(mu, logvar) draws from the normal distribution N(mu, exp(logvar)).",
)


def forward(model: Object, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What forward returns, x_hat like the images, mu (N, Z) and logvar (N, Z), or fail."""
    code = len(images), LATENT_DIM
    x_hat, mu, logvar = expect_tensors(
        model.call("", images),
        {"x_hat": None, "mu": code, "logvar": code},
        "forward should return x_hat, mu, logvar, but it returned {got}.",
        what="The {} that forward returns",
    )
    return x_hat, mu, logvar


@check("forward", points=2)
def forward_returns_what_the_layers_give(submission: Submission) -> None:
    """forward(x) returns x_hat, mu, logvar, and these are mu_layer and logvar_layer of x."""
    model, images = small_vae(submission), pictures(4)
    _, mu, logvar = forward(model, images)
    hidden = model.tensor("encoder", images, what="The encoder's output")
    hidden = hidden.flatten(1)  # its shape is another check's matter
    right = torch.stack([model.tensor(name, hidden) for name in ("mu_layer", "logvar_layer")])
    expect_close(
        torch.stack([mu, logvar]),
        right,
        "The mu and logvar that forward returns are not mu_layer(h) and logvar_layer(h), with h "
        "the encoder's output.",
        {"They are swapped.": right.flip(0)},
    )


@check("forward", points=3)
def forward_decodes_a_sample(submission: Submission) -> None:
    """The image that forward returns is decoded from a sample around mu."""
    model = small_vae(submission)
    still(model)
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
    expect_samples_decoded(x_hat, ours)
