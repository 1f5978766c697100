"""The variational autoencoders of deliverables 3 to 5: their layers and their forward method.

Probes run in eval mode: there, Dropout and BatchNorm give the same answer twice. A shape that is
wrong costs the check of that shape; the other checks measure the same numbers, reshaped.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from helpers.checking import (
    CheckFailedError,
    Object,
    StudentError,
    Submission,
    close,
    expect,
    expect_several,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common.architecture import (
    computed,
    expect_all_used,
    expect_kept,
    layer_name,
)
from helpers.checks.common.conduct import with_the_same_draws
from helpers.checks.common.images import random_images

INPUT_DIM, HIDDEN_DIM, LATENT_DIM = 784, 32, 6

#: How student code or a check says that something is not as it should be.
_FAILURES = (CheckFailedError, StudentError)


def new_vae(submission: Submission, condition_dim: int = 0) -> Object:
    """A fresh, small model of the student's class, in eval mode."""
    sizes = {"input_dim": INPUT_DIM, "hidden_dim": HIDDEN_DIM, "latent_dim": LATENT_DIM}
    if condition_dim:
        sizes["conditional_vec_dim"] = condition_dim
    model = submission.new("myVAE", **sizes)
    try:
        model.call("eval")
    except StudentError as error:
        if "no attribute" in error.message:
            fail("myVAE should be a torch module: class myVAE(nn.Module).")
        raise
    return model


def no_condition(_: int) -> None:
    """The condition of a model without conditions."""


def with_condition(x: Tensor, condition: Tensor | None) -> Tensor:
    """``x``, or with a condition (N, C) its rows followed by those of the condition."""
    if condition is None:
        return x
    if x.ndim < 2 or len(x) != len(condition):
        fail(f"For {len(condition)} images there is a tensor of shape {tuple(x.shape)}.")
    return torch.cat([x.flatten(1), condition], dim=1)


def given(images: Tensor, condition: Tensor | None) -> tuple[Tensor, ...]:
    """The arguments of the model's forward."""
    return (images,) if condition is None else (images, condition)


def expect_linear(model: Object, name: str, hidden: Tensor) -> None:
    """Fail unless mu_layer or logvar_layer applies linear layers alone to ``hidden``."""
    kinds = [layer_name(step) for step in computed(model, name, hidden)]
    for kind in kinds or [model.layers(name)[0].type_name]:
        expect(
            kind == "Linear",
            f"model.{name} should be an nn.Linear, but it applies a {kind}.",
            "Means and log variances may be any numbers: no activation after them.",
        )


# Answers of any shape, as images and codes.


def as_images(answer: object, n_images: int, what: str) -> Tensor:
    """An answer as (N, 1, 28, 28), if it holds so many numbers; or fail."""
    shape = (n_images, 1, 28, 28)
    if isinstance(answer, Tensor) and answer.numel() == n_images * INPUT_DIM:
        answer = answer.reshape(shape)
    return expect_tensor(answer, shape, what=what)


def decoded(model: Object, inputs: Tensor) -> Tensor:
    """What the decoder makes of codes, followed by a condition if there is one, as images.

    A model whose encoder keeps the channel axis decodes (N, 1, Z).
    """
    ways, failures = [inputs, inputs.flatten(1), inputs.flatten(1)[:, None]], []
    for way in ways:
        try:
            answer = model.call("decoder", way)
            return as_images(answer, len(inputs), "The decoder's output")
        except _FAILURES as failure:
            failures.append(failure)
    raise failures[0]


def reconstructions(model: Object, images: Tensor, condition: Tensor | None = None) -> Tensor:
    """The images that forward returns, whatever it returns with them, or fail."""
    answer = model.call("", *given(images, condition))
    expect(answer is not None, "forward returns None: is a `return` missing?")
    if isinstance(answer, list) and answer:
        answer = answer[0]
    return as_images(answer, len(images), "The x_hat that forward returns")


def forward(model: Object, images: Tensor, condition: Tensor | None = None) -> list[Tensor]:
    """What forward returns, images (N, 1, 28, 28), mu (N, Z) and logvar (N, Z), or fail."""
    answer = model.call("", *given(images, condition))
    expect(answer is not None, "forward returns None: is a `return` missing?")
    values = expect_several(
        answer, 3, "forward should return x_hat, mu, logvar, but it returned {got}."
    )
    codes = []
    for name, value in zip(("x_hat", "mu", "logvar"), values, strict=True):
        expect(value is not None, f"The {name} that forward returns is None.")
        if isinstance(value, Tensor) and value.ndim > 2:
            value = value.flatten(1)
        shape = (len(images), INPUT_DIM if name == "x_hat" else LATENT_DIM)
        codes.append(expect_tensor(value, shape, what=f"The {name} that forward returns"))
    return [codes[0].reshape(-1, 1, 28, 28), *codes[1:]]


def means(model: Object, images: Tensor) -> Tensor:
    """The means (N, Z) that forward returns, or else those of mu_layer."""
    answers = [model.call("", images) for _ in range(2)]
    if all(isinstance(answer, list) and len(answer) > 1 for answer in answers):
        first, second = (answer[1] for answer in answers)
        tensors = isinstance(first, Tensor) and isinstance(second, Tensor)
        if tensors and first.ndim > 1 and close(first, second):
            return expect_tensor(first, None, what="The mu that forward returns").flatten(1)
    return posterior(model, images)[0].flatten(1)


def posterior(model: Object, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances that the model's layers give, (N, Z) or, misshapen, (N, 1, Z)."""
    hidden = model.tensor("encoder", inputs, what="The encoder's output")
    mu, logvar = (model.tensor(name, hidden) for name in ("mu_layer", "logvar_layer"))
    for name, found in (("mu_layer", mu), ("logvar_layer", logvar)):
        if found.ndim < 2 or len(found) != len(inputs):
            fail(f"For {len(inputs)} images {name} gives a tensor of shape {tuple(found.shape)}.")
    return mu, logvar


# What forward does.


def expect_forward_parameters(model: Object, condition: Tensor | None = None) -> None:
    """Fail unless forward returns x_hat and the outputs of mu_layer and logvar_layer."""
    images = random_images(5)
    x_hat, mu, logvar = forward(model, images, condition)
    right = _stacked(posterior(model, with_condition(images, condition)))
    found = torch.stack([mu, logvar])

    def causes() -> dict[str, Tensor]:
        mean, log_variance = right
        known = {
            "They are swapped.": right.flip(0),
            "mu is returned in both places.": torch.stack([mean, mean]),
            "logvar is returned in both places.": torch.stack([log_variance, log_variance]),
            "They are zeros.": torch.zeros_like(right),
            "The variance is returned: leave the logarithm.": torch.stack(
                [mean, log_variance.exp()]
            ),
            "The standard deviation is returned in the place of logvar.": torch.stack(
                [mean, (log_variance / 2).exp()]
            ),
        }
        if condition is not None:
            flat = images.flatten(1)
            known |= {
                sentence: _stacked(posterior(model, inputs))
                for sentence, inputs in {
                    "The condition comes before the image: put it after, "
                    "torch.cat([x.flatten(1), c], dim=1).": torch.cat([condition, flat], dim=1),
                    "The encoder is not given the condition, but zeros.": torch.cat(
                        [flat, 0 * condition], dim=1
                    ),
                    "The encoder is given the first condition for all images.": torch.cat(
                        [flat, condition[:1].expand_as(condition)], dim=1
                    ),
                }.items()
            }
        return known

    if found.shape != right.shape or not close(found, right):
        otherwise = "Return the tensors that the two layers gave."
        if found.shape == right.shape and not close(found[0], right[0]):
            again = forward(model, images, condition)[1]
            if not close(mu, again):
                otherwise = "The mu that is returned is another at each call: is it the draw?"
        fail(
            "The mu and logvar that forward returns are not mu_layer(h) and logvar_layer(h), with "
            "h the encoder's output.",
            likely_cause(found, causes, otherwise),
        )
    expect_two_heads(mu, logvar)
    expect_kept(model, "", *given(images, condition))
    _expect_the_same_in_training(model, images, condition)
    expect_gradients_kept(model, given(images, condition))
    answer = model.call("", *given(images, condition))
    first = answer[0] if isinstance(answer, list) and answer else None
    shape = tuple(first.shape) if isinstance(first, Tensor) else ()
    own = model.call("decoder", with_condition(mu, condition)) if shape != x_hat.shape else x_hat
    if isinstance(own, Tensor) and own.shape == x_hat.shape and shape != x_hat.shape:
        fail(f"The x_hat that forward returns should have shape (5, 1, 28, 28), but has {shape}.")


def expect_two_heads(mu: Tensor, logvar: Tensor) -> None:
    """Fail if one layer gives means and log variances."""
    expect(
        not close(mu, logvar),
        "mu and logvar are the same numbers.",
        "mu_layer and logvar_layer should be two layers, each with weights of its own.",
    )


def _expect_the_same_in_training(model: Object, images: Tensor, condition: Tensor | None) -> None:
    """Fail unless forward gives its layers the same in training mode, with the same Dropout."""
    model.call("train")
    found, right = with_the_same_draws(
        model.submission,
        lambda: torch.stack(forward(model, images, condition)[1:]),
        lambda: _stacked(posterior(model, with_condition(images, condition))),
    )
    model.call("eval")
    expect(
        found.shape == right.shape and close(found, right),
        "In training mode the mu and logvar that forward returns are not mu_layer(h) and "
        "logvar_layer(h), with h the encoder's output.",
        "forward should do the same in both modes.",
    )


def expect_gradients_kept(model: Object, inputs: tuple[Tensor, ...]) -> None:
    """Fail unless the mu and logvar that forward returns carry the gradients of their layers."""
    for place, name in ((1, "mu"), (2, "logvar")):
        try:
            gradients = model.differentiate("", *inputs, pick=place).parameters
        except StudentError as error:
            if "grad" not in error.message:
                raise
            gradients = {}
        expect(
            any(gradient is not None for gradient in gradients.values()),
            f"The {name} that forward returns has no gradient, and the KL divergence needs it.",
            "Return it as its layer gives it: no .detach(), no .data and no torch.no_grad().",
        )


def _stacked(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Means and log variances (2, N, Z)."""
    mu, logvar = (each.flatten(1) for each in pair)
    if mu.shape != logvar.shape:
        fail(
            f"mu_layer gives {tuple(mu.shape)} and logvar_layer {tuple(logvar.shape)}.",
            "Both should be (N, latent_dim).",
        )
    return torch.stack([mu, logvar])


def still(model: Object, log_variance: float = -40.0, hidden: Tensor | None = None) -> None:
    """Make a model return one log variance for all images; by default the spread is almost zero.

    Args:
        hidden: outputs of the encoder (N, H), for a logvar_layer without a bias.
    """
    state = model.state("logvar_layer")
    biases = [name for name in state if name.endswith("bias")]
    changed = {name: torch.zeros(value.shape) for name, value in state.items()}
    if biases:
        changed[biases[-1]] += log_variance
    else:
        weights = [name for name, value in state.items() if value.ndim == 2]
        expect(
            len(weights) == 1 and hidden is not None,
            "logvar_layer should be a Linear layer with a bias.",
        )
        assert hidden is not None
        middle = hidden.flatten(1).mean(dim=0)
        size = changed[weights[0]].shape
        expect(size[1] == len(middle), "logvar_layer should take the encoder's output.")
        changed[weights[0]] += log_variance * middle / middle.square().sum().clamp(min=1e-12)
    model.load(changed, "logvar_layer")


def expect_forward_decodes(model: Object, condition: Tensor | None = None) -> None:
    """Fail unless forward decodes what reparameterize draws, or other draws of the same kind.

    Mistakes in reparameterize itself are for other checks: if forward gives what its parts give,
    one after the other and from the same seed, it is right.
    """
    images = random_images(5)
    if not _decodes_own_draws(model, images, condition):
        _expect_decoded_samples(model, images, condition)
    # In training mode too; Dropout may then make the images vary more.
    n_images = 200
    same = images[:1].expand(n_images, -1, -1, -1).contiguous()
    c = None if condition is None else condition[:1].expand(n_images, -1).contiguous()
    usual = float(reconstructions(model, same, c).var(dim=0).sum())
    model.call("train")
    varied = float(reconstructions(model, same, c).var(dim=0).sum())
    model.call("eval")
    expect(
        varied >= 0.1 * usual,
        "In training mode, forward returns the same image each time.",
        "The code must be drawn in training, too.",
    )


def _decodes_own_draws(model: Object, images: Tensor, condition: Tensor | None) -> bool:
    """Whether forward gives what its parts give from the same seed; fail with a known mistake."""
    seed = int(torch.randint(2**31, (1,)))
    model.submission.seed(seed)
    x_hat = reconstructions(model, images, condition)

    def returned() -> tuple[Tensor, Tensor]:
        _, mu, logvar = forward(model, images, condition)
        return mu, logvar

    # If the encoder is given something else, or what is returned is: then from the other of both.
    posteriors = [lambda: posterior(model, with_condition(images, condition)), returned]

    def draw(mu: Tensor, logvar: Tensor) -> Tensor:
        model.submission.seed(seed)
        z = model.tensor("reparameterize", mu, logvar, what="What reparameterize returns")
        expect(z.numel() == mu.numel(), "reparameterize returns a tensor of another size.")
        return z.reshape(mu.shape)

    def noise(mu: Tensor, _: Tensor) -> Tensor:
        model.submission.seed(seed)
        eps = model.submission.ask("build", None, "torch.randn", *mu.shape)
        return expect_tensor(eps, tuple(mu.shape), what="Noise")

    codes: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "": draw,
        "It decodes mu: draw a code with reparameterize(mu, logvar).": lambda mu, _: mu,
        "It decodes noise that does not depend on mu and logvar.": noise,
        "It calls reparameterize with 2 * logvar.": lambda mu, lv: draw(mu, 2 * lv),
        "It calls reparameterize with logvar / 2, which takes the half itself.": (
            lambda mu, lv: draw(mu, lv / 2)
        ),
        "It calls reparameterize with the variance in place of its logarithm.": (
            lambda mu, lv: draw(mu, lv.exp())
        ),
        "It calls reparameterize with the standard deviation in place of logvar.": (
            lambda mu, lv: draw(mu, (lv / 2).exp())
        ),
        "It calls reparameterize with mu and logvar exchanged.": lambda mu, lv: draw(lv, mu),
    }
    ways: dict[str, Callable[[Tensor], Tensor]] = {"": lambda z: with_condition(z, condition)}
    if condition is not None:
        c = condition
        ways |= {
            "The condition comes before the code: put it after, torch.cat([z, c], dim=1).": (
                lambda z: torch.cat([c, z.flatten(1)], dim=1)
            ),
            "The decoder is not given the condition, but zeros.": (
                lambda z: with_condition(z, 0 * c)
            ),
            "The decoder is given the first condition for all codes.": (
                lambda z: with_condition(z, c[:1].expand_as(c))
            ),
        }
    tries = [("", way) for way in ways] + [(code, "") for code in codes if code]
    for (code, way), find in product(tries, posteriors):
        try:
            same = close(x_hat, decoded(model, ways[way](codes[code](*find()))), 1e-4)
        except _FAILURES:
            continue
        if same and (code or way):
            message = "forward does not return decoder(z) for z = reparameterize(mu, logvar)."
            fail(message, code or way)
        if same:
            return True
    return False


def _expect_decoded_samples(model: Object, images: Tensor, condition: Tensor | None) -> None:
    """Fail unless forward decodes samples: mu itself if the spread is zero, else around it."""

    def hidden(images: Tensor, condition: Tensor | None) -> Tensor:
        found = model.tensor("encoder", with_condition(images, condition))
        expect(found.ndim > 1, "The encoder's output should be (N, hidden_dim).")
        return found

    still(model, hidden=hidden(images, condition))
    x_hat = reconstructions(model, images, condition)
    mu, _ = posterior(model, with_condition(images, condition))
    if not close(x_hat, decoded(model, with_condition(mu, condition)), 1e-3):
        fail(
            "With a very small variance, forward does not return decoder(mu).",
            "With no spread, z is mu.",
        )
    # The spread is measured as the variance of all pixels over many samples.
    n_draws = 2000
    same = images[:1].expand(n_draws, -1, -1, -1).contiguous()
    c = None if condition is None else condition[:1].expand(n_draws, -1).contiguous()
    still(model, 1.0, hidden(same, c))
    x_hat = reconstructions(model, same, c)
    mu, logvar = posterior(model, with_condition(same, c))
    z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
    expect_samples_decoded(x_hat, decoded(model, with_condition(z, c)))


def expect_samples_decoded(x_hat: Tensor, decoded: Tensor) -> None:
    """Fail unless what forward returns for one image, N times, varies like decoded samples."""
    ratio = float(x_hat.var(dim=0).sum() / decoded.var(dim=0).sum())
    expect(
        0.75 < ratio < 1.33,
        f"The variance of forward's images is {ratio:.2f} times that of decoded samples from "
        "N(mu, exp(logvar)).",
        "Is z = reparameterize(mu, logvar) what is decoded?",
    )


def expect_zeros_read(model: Object, condition_dim: int) -> None:
    """Fail if a condition of zeros is taken for none; other mistakes are for other checks."""
    images, zeros = random_images(5), torch.zeros(5, condition_dim)

    def answers(condition: Tensor) -> list[Tensor]:
        model.submission.seed(1)
        return forward(model, images, condition)

    right = answers(zeros + 1e-7)  # which no test for zeros can take for zeros
    hint = "Ask `if c is None`, and not whether the condition is zero."
    try:
        found = answers(zeros)
    except StudentError as error:
        fail(f"A condition of zeros is not read like any other ({error.message}).", hint)
    for a, b in zip(found, right, strict=True):
        expect(close(a, b, 1e-3), "A condition of zeros is not read like any other.", hint)


def expect_every_part_used(model: Object, condition: Tensor | None = None) -> None:
    """Fail if the images that forward returns do not depend on one of the parameters."""
    inputs = given(random_images(5), condition)
    answer = model.call("", *inputs)
    expect(answer is not None, "forward returns None: is a `return` missing?")
    pick = 0 if isinstance(answer, list) else None
    expect_all_used(model.differentiate("", *inputs, pick=pick).parameters)
