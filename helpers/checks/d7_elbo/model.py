"""The checks of the model: its draws, its loss, its training, and the codes of images."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from helpers.checking import (
    Object,
    StudentError,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_several,
    expect_tensor,
    expect_tensors,
    fail,
    likely_cause,
)
from helpers.checks.common import tiny_elbo
from helpers.checks.common.architecture import expect_all_used, expect_kept
from helpers.checks.common.conduct import expect_evaluation, expect_no_seed
from helpers.checks.common.sampling import Sampler, check_sampling
from helpers.checks.common.summed_elbo import Case, SummedLoss, summed_trial
from helpers.checks.common.tiny_elbo import TinyBernoulliVAE
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import MakeTrial
from helpers.deliverables import get

D7 = get("d7_elbo")

#: The sizes of the small models in these checks.
IMAGE_DIM, HIDDEN_DIM, LATENT_DIM = 30, 12, 2

SAMPLER = Sampler("reparameterization", takes_std=True)


def new_models(submission: Submission) -> tuple[Object, TinyBernoulliVAE]:
    """A small model of the student's class, and one of ours with the same encoder and decoder."""
    path, ours = tiny_elbo.__name__, TinyBernoulliVAE(IMAGE_DIM, HIDDEN_DIM, LATENT_DIM)
    encoder = submission.build(f"{path}.TinyEncoder", IMAGE_DIM, HIDDEN_DIM, LATENT_DIM)
    decoder = submission.build(f"{path}.TinyDecoder", LATENT_DIM, HIDDEN_DIM, IMAGE_DIM)
    model = submission.new("Model", encoder, decoder)
    encoder.load(ours.encoder.state_dict())
    decoder.load(ours.decoder.state_dict())
    return model, ours.requires_grad_(False)


def new_model(submission: Submission) -> Object:
    """A small model of the student's class."""
    return new_models(submission)[0]


def some_bits(n_images: int, image_dim: int = IMAGE_DIM) -> Tensor:
    """Zeros and ones, (n_images, image_dim)."""
    return torch.randint(2, (n_images, image_dim)).float()


check_sampling(
    __name__,
    new_model,
    cell="reparameterization",
    points=(0.75, 0.5, 0.5),
    title="reparameterization(mean, std) draws from the normal distribution N(mean, std^2).",
    sampler=SAMPLER,
)


@check("reparameterization", points=0.25)
def reparameterization_draws_in_evaluation_too(submission: Submission) -> None:
    """reparameterization draws in evaluation mode too, and leaves mean and std as they are."""
    model = new_model(submission)
    mean, std = torch.randn(50, LATENT_DIM), 0.5 + torch.rand(50, LATENT_DIM)
    model.call("eval")
    expect(
        not close(SAMPLER.draw(model, mean, std), mean),
        "In evaluation mode, reparameterization returns the mean.",
        "Draw in both modes.",
    )
    expect_kept(model, "reparameterization", mean, std)


def forward(model: Object, x: Tensor) -> list[Tensor]:
    """What forward returns, theta (N, D), mean, log_var and z (N, Z), or fail."""
    code = len(x), LATENT_DIM
    return expect_tensors(
        model.call("", x),
        {"theta": x.shape, "mean": code, "log_var": code, "z": code},
        "forward should return theta, mean, log_var, z, but it returned {got}.",
        what="The {} that forward returns",
    )


@check("forward", points=0.5)
def forward_returns_what_the_parts_give(submission: Submission) -> None:
    """forward(x) returns theta, mean, log_var, z: the encoder's answer, and theta = decoder(z)."""
    model, ours = new_models(submission)
    x = some_bits(5)
    right_mean, right_log_var = ours.encoder(x)
    std = torch.exp(0.5 * right_log_var)
    # Where the student's draw overwrites what it is given, that costs its own check.
    kept = not model.overwrites("reparameterization", right_mean, std)
    for mode in ("train", "eval"):
        model.call(mode)
        seed = int(torch.randint(2**31, ()))
        model.submission.seed(seed)
        theta, mean, log_var, z = forward(model, x)
        if kept and not (close(mean, right_mean) and close(log_var, right_log_var)):
            hint = ""
            if close(mean, right_log_var) and close(log_var, right_mean):
                hint = "They are swapped."
            elif close(log_var, std):
                hint = "What it returns is the standard deviation, not log_var."
            elif close(log_var, std**2):
                hint = "What it returns is the variance, not log_var."
            elif close(mean, z):
                hint = "What it returns as the mean is the code z."
            fail("The mean and log_var that forward returns are not those of the encoder.", hint)
        expect_close(
            theta,
            ours.decoder(z),
            "The theta that forward returns is not decoder(z).",
            {
                "It is the decoder's answer to the mean.": ours.decoder(right_mean),
                "It is the code z: the outputs are in another order.": z,
                "It is rounded: theta is a probability.": ours.decoder(z).round(),
                "It is the image itself.": x,
            },
            "It is the decoder's answer to other codes: was z drawn a second time?"
            if _is_of_other_codes(model, ours, x, theta, seed)
            else "",
        )
        model.submission.seed(int(torch.randint(2**31, ())))
    model.call("train")
    _expect_gradients(model, x, right_mean, std)


def _expect_gradients(model: Object, x: Tensor, mean: Tensor, std: Tensor) -> None:
    """Fail unless gradients pass from what forward returns to the encoder and the decoder."""
    for position, name in enumerate(("mean", "log_var"), start=1):
        found = model.differentiate("", x, pick=position).parameters
        expect(
            found.get(f"encoder.{name}.weight", x) is not None,
            f"No gradient passes through the {name} that forward returns.",
            "Is it detached?",
        )
    try:
        draw = model.differentiate(SAMPLER.method, mean, std, wrt=(0, 1))
    except StudentError:  # such as for operations in place
        return
    if all(gradient is not None for gradient in draw.inputs):  # else it costs its own check
        expect_all_used(model.differentiate("", x, pick=0).parameters)


def _is_of_other_codes(
    model: Object, ours: TinyBernoulliVAE, x: Tensor, theta: Tensor, seed: int
) -> bool:
    """Whether theta is the decoder's answer to the first or the second draw from a seed."""
    mean, log_var = ours.encoder(x)
    model.submission.seed(seed)
    draws = [SAMPLER.draw(model, mean, torch.exp(0.5 * log_var)) for _ in range(2)]
    return any(close(theta, ours.decoder(z)) for z in draws)


@check("forward", points=0.5)
def forward_draws_with_the_encoders_spread(submission: Submission) -> None:
    """The code z that forward returns is drawn with the mean and spread that the encoder gives."""
    model, ours = new_models(submission)
    x = some_bits(1).expand(20_000, -1).contiguous()
    mean, log_var = ours.encoder(x)
    std = torch.exp(0.5 * log_var)
    for mode in ("train", "eval"):
        model.call(mode)
        *_, z = forward(model, x)
        # With the student's own reparameterization: its mistakes cost its own points.
        right = SAMPLER.draw(model, mean, std)
        if float(right.std(dim=0).max()) < 1e-3:
            continue  # one draw for all images, or none: two calls cannot be compared
        expect_close(
            z,
            right,
            "The codes that forward returns are not those of reparameterization(mean, std).",
            lambda mean=mean, std=std, log_var=log_var: {
                "exp(log_var) is the variance: give it exp(0.5 * log_var).": SAMPLER.draw(
                    model, mean, std**2
                ),
                "It is given log_var itself: give it exp(0.5 * log_var).": SAMPLER.draw(
                    model, mean, log_var
                ),
                "It is given 0.5 * log_var: give it exp(0.5 * log_var).": SAMPLER.draw(
                    model, mean, 0.5 * log_var
                ),
                "Its arguments are swapped: the mean comes first.": SAMPLER.draw(model, std, mean),
                "z is the mean itself: nothing is drawn.": mean,
            },
            same=_alike,
        )


def _alike(z: Tensor, other: Tensor) -> bool:
    """Whether two sets of many draws have the same mean and spread."""
    error = (z.mean(dim=0) - other.mean(dim=0)).abs()
    near = error < 0.05 * (0.1 + other.std(dim=0))
    return bool(near.all()) and torch.allclose(z.std(0), other.std(0), rtol=0.04, atol=1e-5)


def random_case(n_images: int) -> Case:
    """theta, x, mean and log_var."""
    # Close to 0 and 1, too, where a clamp would show that is more than a guard.
    x, theta = some_bits(n_images), 0.002 + 0.996 * torch.rand(n_images, IMAGE_DIM)
    return theta, x, 1.5 * torch.randn(n_images, 7), torch.randn(n_images, 7) - 0.5


LOSS = SummedLoss("loss_function", random_case, "theta", "mean", "log_var", images_first=True)


@check("loss", points=1)
def loss_is_the_negative_elbo(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence."""
    LOSS.expect_value(submission, or_averaged=True)


@check("loss", points=0.5)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for theta, mean and log_var."""
    LOSS.expect_gradients(submission)


@check("loss", points=0.5)
def loss_is_summed_over_the_images(submission: Submission) -> None:
    """The same images twice over have twice the loss."""
    case = random_case(4)
    twice = tuple(torch.cat([tensor, tensor]) for tensor in case)
    one, two = LOSS.value(submission, case), LOSS.value(submission, twice)  # type: ignore[arg-type]
    expect(
        not math.isclose(one, two, rel_tol=1e-4),
        f"4 images have a loss of {one:.3f}, and the same twice over of {two:.3f}: it is averaged.",
        "Sum over the images: train_epoch divides by their number.",
    )


#: A trial of the student's train_epoch on a tiny model.
trial: MakeTrial = partial(summed_trial, sizes=(0, True), summed="TinyElbo")

check_training(
    __name__,
    trial,
    points=(0.25, 0.5),
    lr=0.02,
    hint="theta, mean, log_var, z = model(x), then loss_function(x, theta, mean, log_var).",
    returns="nats_per_image",
)


def encoded(submission: Submission) -> tuple[Object, Tensor, TinyBernoulliVAE, list[Any]]:
    """A small model in training mode, 13 images, the model here, and what encode_all returns."""
    sizes = (IMAGE_DIM, HIDDEN_DIM, 3, False)
    ours = TinyBernoulliVAE(*sizes)
    model = submission.build(f"{tiny_elbo.__name__}.TinyBernoulliVAE", *sizes)
    model.load(ours.state_dict())
    x = some_bits(13)
    dataset = submission.build("torch.utils.data.TensorDataset", x, torch.arange(13) % 10)
    loader = submission.build("helpers.data.Loader", dataset, 5)
    answer = submission.call("encode_all", model, loader, submission.build("torch.device", "cpu"))
    message = "encode_all should return two tensors, the codes and the last reconstruction, but it "
    message += "returned {got}."
    return model, x, ours.requires_grad_(False), expect_several(answer, 2, message)


@check("codes", points=0.5)
def codes_are_those_of_all_images(submission: Submission) -> None:
    """encode_all returns the codes of all images, in their order."""
    _, x, ours, (codes, _) = encoded(submission)
    theta, mean, log_var, z = ours(x)
    if isinstance(codes, Tensor) and codes.shape == theta.shape and close(codes, theta):
        fail("These are the reconstructions of all images, not their codes z.")
    hint = "torch.cat(codes) joins the batches."
    if isinstance(codes, Tensor) and codes.shape[1:] == (3,) and len(codes) not in (3, 5):
        hint = f"Each image has one code, and there are {'more' if len(codes) > 13 else 'fewer'}."
    codes = expect_tensor(codes, (len(x), 3), what="The codes of 13 images", hint=hint)
    others = {
        "These are the means, not the codes z.": mean,
        "These are the log variances, not the codes z.": log_var,
    }
    message = likely_cause(codes, others, "These are not the images' codes.")
    expect_close(
        codes, z, message, otherwise="The model returns theta, mean, log_var, z, in this order."
    )


@check("codes", points=0.25)
def last_reconstruction_is_returned(submission: Submission) -> None:
    """encode_all also returns theta of the last batch."""
    _, x, ours, (codes, last) = encoded(submission)
    batches = [ours(batch)[0] for batch in x.split(5)]
    what = "The last reconstruction"
    last = expect_tensor(last, what=what)
    if isinstance(codes, Tensor) and codes.shape == batches[-1].shape:
        expect(not close(codes, batches[-1]), "The codes come first, and then theta.")
    if last.numel() == batches[-1].numel():
        last = last.view(batches[-1].shape)
    message = "This is not theta of the last batch."
    causes = {
        "It is theta of the first batch.": batches[0],
        "It is theta of all images.": torch.cat(batches),
        "It is theta of the last image alone.": batches[-1][-1:],
        "These are the last images themselves.": x[-3:],
        "These are their codes.": ours(x)[3][-3:],
    }
    expect_close(last, batches[-1], message, causes)


@check("codes", points=0.25)
def encode_all_changes_nothing(submission: Submission) -> None:
    """encode_all puts the model into evaluation mode and computes no gradients."""
    model, *_ = encoded(submission)
    expect_evaluation(model, "encoder.recorder")
    expect_no_seed(submission, lambda: encoded(submission), "encode_all")
