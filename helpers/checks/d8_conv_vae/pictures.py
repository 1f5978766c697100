"""The checks of pictures: the range of pixels, mixtures, and a grid of the latent plane."""

import torch
from torch import Tensor

from helpers.checking import Object, Submission, check, close, expect, expect_close, expect_tensor
from helpers.checks.common import tiny_conv
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.conduct import expect_no_seed, flags
from helpers.checks.common.images import random_images
from helpers.checks.common.tiny_conv import TinyConvVAE
from helpers.checks.d8_conv_vae.layers import CAPACITY, LATENT_DIMS


@check("pixels", points=2)
def to_img_clamps(submission: Submission) -> None:
    """to_img sets what is below 0 to 0 and what is above 1 to 1, and leaves the rest."""
    x = 3 * torch.randn(4, 1, 28, 28)
    image = expect_tensor(submission.call("to_img", x), (4, 1, 28, 28), what="What to_img returns")
    expect_close(
        image,
        x.clamp(0, 1),
        "What it returns is not x, cut off at 0 and 1.",
        {
            "This is (x + 1) / 2, for pixels from -1 to 1.": (0.5 * (x + 1)).clamp(0, 1),
            "This is a sigmoid: the decoder has one already.": x.sigmoid(),
            "Only the lower end is cut off.": x.clamp(min=0),
            "Only the upper end is cut off.": x.clamp(max=1),
        },
    )
    expect_kept(submission, "to_img", x)


def standin(submission: Submission, latent_dims: int = LATENT_DIMS) -> tuple[Object, TinyConvVAE]:
    """A right model in training mode where the student's code runs, and the same one here."""
    ours = TinyConvVAE(CAPACITY, latent_dims)
    model = submission.build(f"{tiny_conv.__name__}.TinyConvVAE", CAPACITY, latent_dims)
    model.load(ours.state_dict())
    return model, ours.requires_grad_(False)


def called(submission: Submission, name: str, *args: object) -> Object:
    """A call of the student's function ``name``, with a right ``to_img`` in place of theirs."""
    return submission.build(f"{tiny_conv.__name__}.KeptWithToImg", submission.object(name), *args)


def image_of(call: Object, name: str, shape: tuple[int, ...]) -> Tensor:
    """What the function ``name`` returned, or fail."""
    return expect_tensor(call.get("result"), shape, what=f"What {name} returns")


def expect_conduct(submission: Submission, name: str, model: Object, *args: object) -> None:
    """Fail unless a function draws pictures in evaluation mode, without gradients or a seed."""
    call = called(submission, name, *args)
    decodes = bool(flags(model, "decoder.recorder.was_training"))
    expect(decodes, f"{name} does not call model.decoder.")
    expect(
        not any(flags(model, "decoder.recorder.was_training")),
        "The model was in training mode.",
        "Call model.eval() first.",
    )
    expect(
        call.get("keeps_graph") is False,
        f"What {name} returns carries gradients.",
        "Put the calls of the model under torch.no_grad().",
    )
    expect_no_seed(submission, lambda: called(submission, name, *args), name)


@check("mixing", points=4)
def interpolation_mixes_the_means(submission: Submission) -> None:
    """interpolation decodes lambda * mu(img1) + (1 - lambda) * mu(img2)."""
    model, ours = standin(submission)
    decoder = ours.decoder
    for share in (0.25, 0.9):
        one, two = random_images(1), 0.2 * random_images(1)
        (mu_one, logvar_one), (mu_two, logvar_two) = ours.encoder(one), ours.encoder(two)
        rest = 1 - share
        call = called(submission, "interpolation", share, model, one, two)
        image = image_of(call, "interpolation", (1, 1, 28, 28))
        mixed = share * one + rest * two
        right = decoder(share * mu_one + rest * mu_two)
        # Whether noise was drawn is the matter of another check.
        again = called(submission, "interpolation", share, model, one, two).get("result")
        if not (isinstance(again, Tensor) and close(image, again)):
            continue
        expect_close(
            image,
            right,
            f"For lambda = {share} the image is not the decoded mixture of the mean codes.",
            {
                "The shares are swapped: lambda belongs to the first image.": decoder(
                    share * mu_two + rest * mu_one
                ),
                "The decoded images are mixed, not the codes.": share * decoder(mu_one)
                + rest * decoder(mu_two),
                "The images are mixed before the encoder, not the codes.": decoder(
                    ours.encoder(mixed)[0]
                ),
                "The images are mixed, and nothing is decoded.": mixed,
                "The shares should add up to 1.": decoder(share * mu_one + share * mu_two),
                "The codes are added: the shares are missing.": decoder(mu_one + mu_two),
                "It is half of each, whatever lambda is.": decoder(0.5 * (mu_one + mu_two)),
                "It is the first image's code alone.": decoder(mu_one),
                "It is the second image's code alone.": decoder(mu_two),
                "The log variances are mixed, not the means.": decoder(
                    share * logvar_one + rest * logvar_two
                ),
                "It is rounded.": right.round(),
            },
            tolerance=1e-3,
        )


@check("mixing", points=1)
def interpolation_is_the_same_each_time(submission: Submission) -> None:
    """No noise is drawn on the way, whatever mode the model was in."""
    model, _ = standin(submission)
    arguments = (0.5, model, random_images(1), random_images(1))
    images = []
    for _ in range(2):
        model.call("train")
        call = called(submission, "interpolation", *arguments)
        images.append(image_of(call, "interpolation", (1, 1, 28, 28)))
    expect(
        close(images[0], images[1]),
        "The same two images give another mixture the second time.",
        "Mix the means, not draws.",
    )


@check("mixing", points=2)
def interpolation_leaves_no_trace(submission: Submission) -> None:
    """interpolation uses evaluation mode, keeps no gradients, and leaves both images alone."""
    model, _ = standin(submission)
    arguments = (0.5, model, random_images(1), random_images(1))
    expect_conduct(submission, "interpolation", model, *arguments)
    expect_kept(submission, "interpolation", *arguments)


#: The number of points in each direction and the reach of the grid that is asked for.
_N, _REACH = 5, 2.0


@check("grid", points=4)
def grid_shows_the_plane(submission: Submission) -> None:
    """latent_grid gives n x n images, z1 growing to the right and z2 growing upwards."""
    model, ours = standin(submission, latent_dims=2)
    device = submission.build("torch.device", "cpu")
    call = called(submission, "latent_grid", model, _N, _REACH, device)
    images = image_of(call, "latent_grid", (_N * _N, 1, 28, 28))
    axis = torch.linspace(-_REACH, _REACH, _N)
    short = torch.linspace(-_REACH, _REACH, _N + 1)[:-1]
    across, up = axis.repeat(_N), axis.repeat_interleave(_N)

    def plane(z1: Tensor, z2: Tensor) -> Tensor:
        images: Tensor = ours.decoder(torch.stack([z1, z2], dim=1))
        return images

    expect_close(
        images,
        plane(across, -up),
        "The images are not those of the grid's points, row by row from the top left.",
        lambda: {
            "z2 grows downwards: the first row should have the largest.": plane(across, up),
            "z1 grows downwards and z2 to the right: they are swapped.": plane(up, across),
            "z1 grows to the left.": plane(-across, -up),
            "z1 grows to the left, and z2 downwards.": plane(-across, up),
            "z1 and z2 are swapped: z2 grows to the right, and z1 upwards.": plane(-up, across),
            "The last points should be reach itself: torch.linspace includes both ends.": plane(
                short.repeat(_N), short.flip(0).repeat_interleave(_N)
            ),
            "z1 and z2 are the same numbers: only the diagonal is shown.": plane(across, across),
            "It goes from 0 to reach, and not from -reach.": plane(
                (across + _REACH) / 2, (_REACH - up) / 2
            ),
            "It goes from -1 to 1, whatever the reach.": plane(across / _REACH, -up / _REACH),
            "It goes from -1.5 to 1.5, whatever the reach.": plane(
                across * 1.5 / _REACH, -up * 1.5 / _REACH
            ),
        },
        "The first code is (-reach, reach), and the second is to the right of it.",
        tolerance=1e-3,
    )


@check("grid", points=1)
def latent_grid_leaves_no_trace(submission: Submission) -> None:
    """latent_grid uses evaluation mode, and keeps no gradients."""
    model, _ = standin(submission, latent_dims=2)
    device = submission.build("torch.device", "cpu")
    expect_conduct(submission, "latent_grid", model, model, 3, 1.0, device)
