"""The checks of pictures: the range of pixels, mixtures, and a grid of the latent plane."""

import torch
from torch import Tensor

from helpers.checking import Object, Submission, check, close, expect, expect_close, expect_tensor
from helpers.checks.common.images import random_images
from helpers.checks.d8_conv_vae.model import LATENT_DIMS, encoded, new_model


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
        "x.clamp(0, 1)",
    )


def still_model(submission: Submission, latent_dims: int = LATENT_DIMS) -> Object:
    """A model in training mode, with weights large enough for its images to differ."""
    model = new_model(submission, latent_dims)
    model.load({name: 2 * value for name, value in model.state().items()})
    return model


def decoded(model: Object, codes: Tensor) -> Tensor:
    """Images decoded by a model and passed through the student's to_img, or fail."""
    images = model.tensor("decoder", codes, what="The Decoder's output")
    # Mistakes in to_img cost only its own points.
    return expect_tensor(model.submission.call("to_img", images), what="What to_img returns")


@check("mixing", points=4)
def interpolation_mixes_the_means(submission: Submission) -> None:
    """interpolation decodes lambda * mu(img1) + (1 - lambda) * mu(img2)."""
    model = still_model(submission)
    one, two = random_images(1), 0.2 * random_images(1)
    mu_one, mu_two = (mean_code(model, image) for image in (one, two))
    for share in (0.25, 0.9):
        rest = 1 - share
        image = interpolated(model, share, [one, two], (1, 1, 28, 28))
        expect_close(
            image,
            decoded(model, share * mu_one + rest * mu_two),
            f"For lambda = {share} the image is not the decoded mixture of the mean codes.",
            lambda share=share, rest=rest: {
                "The shares are swapped: lambda belongs to the first image.": decoded(
                    model, share * mu_two + rest * mu_one
                ),
                "The decoded images are mixed, not the codes.": share * decoded(model, mu_one)
                + rest * decoded(model, mu_two),
                "The images are mixed before the encoder, not the codes.": decoded(
                    model, mean_code(model, share * one + rest * two)
                ),
                "The shares should add up to 1.": decoded(model, share * mu_one + share * mu_two),
            },
            "Mix the means, without any noise, and decode the mixture.",
            tolerance=1e-3,
        )


def mean_code(model: Object, images: Tensor) -> Tensor:
    """The mu that a model's encoder gives, or fail."""
    return encoded(model.call("encoder", images))[0]


def interpolated(
    model: Object, share: float, images: list[Tensor], shape: tuple[int, ...] | None = None
) -> Tensor:
    """What the student's interpolation between two images returns."""
    answer = model.submission.call("interpolation", share, model, *images)
    return expect_tensor(answer, shape, what="What interpolation returns")


@check("mixing", points=3)
def interpolation_is_the_same_each_time(submission: Submission) -> None:
    """No noise is drawn on the way, whatever mode the model was in."""
    model = still_model(submission)
    images = [random_images(1), random_images(1)]
    first, second = (interpolated(model, 0.5, images) for _ in range(2))
    expect(
        close(first, second),
        "The same two images give another mixture the second time.",
        "Mix the means, not draws.",
    )


#: The number of points in each direction and the reach of the grid that is asked for.
_N, _REACH = 5, 2.0


@check("grid", points=5)
def grid_shows_the_plane(submission: Submission) -> None:
    """latent_grid gives n x n images, z1 growing to the right and z2 growing upwards."""
    model = still_model(submission, latent_dims=2)
    device = submission.build("torch.device", "cpu")
    answer = submission.call("latent_grid", model, _N, _REACH, device)
    images = expect_tensor(
        answer, (_N * _N, 1, 28, 28), what=f"What latent_grid returns for n={_N}"
    )
    axis = torch.linspace(-_REACH, _REACH, _N)
    across, up = axis.repeat(_N), axis.repeat_interleave(_N)

    def plane(z1: Tensor, z2: Tensor) -> Tensor:
        return decoded(model, torch.stack([z1, z2], dim=1))

    expect_close(
        images,
        plane(across, -up),
        "The images are not those of the grid's points, row by row from the top left.",
        lambda: {
            "z2 grows downwards: the first row should have the largest.": plane(across, up),
            "z1 and z2 are swapped: columns, not rows, have one z2.": plane(-up, across),
            "z1 grows downwards and z2 to the right: they are swapped.": plane(up, across),
            "z1 grows to the left.": plane(-across, -up),
            "It goes from 0 to reach, and not from -reach.": plane(
                (across + _REACH) / 2, (_REACH - up) / 2
            ),
            "It goes from -1 to 1, whatever the reach.": plane(across / _REACH, -up / _REACH),
            "It goes from -1.5 to 1.5, whatever the reach.": plane(
                across * 1.5 / _REACH, -up * 1.5 / _REACH
            ),
        },
        "The first code is (-reach, reach), the second is right of it.",
        tolerance=1e-3,
    )
