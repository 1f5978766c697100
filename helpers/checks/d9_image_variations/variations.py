"""The checks of the variations of an image."""

import math
from itertools import product

import torch
from torch import Tensor

from helpers.checking import Submission, check, close, expect, expect_tensor, fail, likely_cause
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.kept import keep_result
from helpers.checks.common.tiny_faces import SIDE, local_twin, new_state
from helpers.checks.d9_image_variations.training import moved


class Variations:
    """The student's generate_variations on a tiny model of ours and a random image.

    Args:
        training: whether the model is in training mode before.

    Attributes:
        mu, std: of the image's code in evaluation mode, (Z,).
    """

    def __init__(self, submission: Submission, *, training: bool = False) -> None:
        self.submission = submission
        self.state, self.image = new_state(), torch.rand(3, SIDE, SIDE)
        self.model = submission.build("helpers.checks.common.tiny_faces.TinyFaceVAE")
        self.model.load(self.state)
        self.model.call("train", training)
        self.twin = local_twin(self.state)
        with torch.no_grad():
            _, mu, logvar = self.twin(self.image[None])
        self.mu, self.std = mu[0], torch.exp(logvar[0] / 2)
        self.keeps_graph = False

    def images(self, n: int, scale: float, *, any_number: bool = False) -> Tensor:
        """What generate_variations returns, (n, 3, SIDE, SIDE)."""
        call = keep_result(
            self.submission,
            "generate_variations",
            self.model,
            self.image,
            n=n,
            variance_scale=scale,
        )
        self.keeps_graph = call.get("keeps_graph") is True
        answer = call.get("result")
        if any_number and isinstance(answer, Tensor) and answer.ndim == 4:
            n = len(answer)
        what = f"For n={n}, what generate_variations returns"
        return expect_tensor(answer, (n, 3, SIDE, SIDE), what=what)

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """The codes (n, Z) that the images were decoded from; fail if there are none."""
        logits = torch.logit(images.clamp(1e-6, 1 - 1e-6))
        mean, var = (self.state[f"decoder.2.running_{name}"] for name in ("mean", "var"))
        hidden = logits * torch.sqrt(var + 1e-5).view(3, 1, 1) + mean.view(3, 1, 1)
        weight, bias = self.state["decoder.0.weight"], self.state["decoder.0.bias"]
        codes: Tensor = torch.linalg.lstsq(weight, (hidden.flatten(1) - bias).T).solution.T
        if not close(self.twin.decoder(codes), images, 1e-3):
            fail("The variations are not what the decoder makes of codes.", self._where(images))
        return codes

    @torch.no_grad()
    def _where(self, images: Tensor) -> str:
        """Why images are not the decoder's, or ""."""
        if moved(self.state, self.model.state()):
            return "The model is in training mode while they are made: call model.eval()."
        if close(images, self.image.expand_as(images), 1e-3):
            return "They are the given image itself: encode it, and decode codes around its mean."
        n, noise = len(images), images.std(dim=0) if len(images) > 1 else torch.zeros(3, SIDE, SIDE)
        for centre, whose in (
            (self.twin.decoder(self.mu[None])[0], "decoded"),
            (self.image, "given"),
        ):
            near = (images.mean(dim=0) - centre).abs() < 6 * noise / math.sqrt(n) + 1e-3
            if bool(near.all()) and float(noise.min()) > 0:
                return f"The noise is added to the {whose} image's pixels: add it to the code."
        return ""


@check("variations", points=1)
def image_is_kept_and_gradients_are_not(submission: Submission) -> None:
    """The image stays as it is, and the variations come without gradients."""
    variations = Variations(submission)
    variations.images(3, 1.0, any_number=True)
    expect(
        not variations.keeps_graph,
        "The variations carry the graph of their gradients, which fills the memory.",
        "Use torch.no_grad().",
    )
    expect_kept(
        submission,
        "generate_variations",
        variations.model,
        variations.image,
        n=3,
        variance_scale=1.0,
    )


@check("variations", points=2)
def scale_of_zero_gives_no_variation(submission: Submission) -> None:
    """With a scale of 0 all n variations are the decoded mean; n of them come back."""
    variations = Variations(submission)
    for n in (2000, 1):
        codes = variations.codes(variations.images(n, 0.0))
        if n > 1 and not close(codes, codes[:1].expand_as(codes), 1e-3):
            found, posterior = (
                (codes.mean(dim=0), codes.std(dim=0)),
                (variations.mu, variations.std),
            )
            fail("With variance_scale=0 the variations differ.", _cause(0.0, found, posterior, n))
        causes = {
            "mu is missing, or scaled.": torch.zeros_like(variations.mu),
            "logvar is decoded in the place of mu.": 2 * variations.std.log(),
            "sigma is added without noise.": variations.mu + variations.std,
        }
        expect(
            close(codes[0], variations.mu, 1e-3),
            "With variance_scale=0 the variations are not decoder(mu).",
            likely_cause(codes[0], causes, tolerance=1e-3),
        )


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether standard deviations agree: that of 2,000 draws varies by 1.6%."""
    return torch.allclose(one, other, rtol=0.09, atol=1e-4)


@check("variations", points=4)
def scale_multiplies_the_variance(submission: Submission) -> None:
    """The codes are drawn from N(mu, scale * sigma^2), for each image noise of its own."""
    n = 4000
    variations = Variations(submission)
    mu, std = variations.mu, variations.std
    for scale in (0.01, 0.3, 4.0):
        codes = variations.codes(variations.images(n, scale))
        means, spreads = codes.mean(dim=0), codes.std(dim=0)
        right = math.sqrt(scale) * std
        centred = bool(((means - mu).abs() < 6 * right / math.sqrt(n) + 1e-3).all())
        if not (centred and _alike(spreads, right)):
            fail(
                f"For variance_scale={scale:g} the codes have a standard deviation of "
                f"{_text(spreads)} around {_text(means)}; it should be {_text(right)} around "
                f"{_text(mu)}.",
                _cause(scale, (means, spreads), (mu, std), n),
            )
        standard = (codes - means) / spreads
        expect(
            bool((standard.pow(4).mean(dim=0) - 3).abs().max() < 1),
            "The noise is not Gaussian.",
            "Use torch.randn.",
        )
        # Correlations, whose standard error is 1.6%.
        together = (standard.T @ standard / n - torch.eye(len(mu))).abs()
        expect(
            float(together.max()) < 0.2,
            "The numbers of a code get the same noise: draw (n, Z) numbers for n codes.",
        )


def _cause(
    scale: float, found: tuple[Tensor, Tensor], posterior: tuple[Tensor, Tensor], n: int
) -> str:
    """The mistake that explains the means and standard deviations of ``n`` codes, or ""."""
    (means, spreads), (mu, std), root = found, posterior, math.sqrt(scale)

    def around(centre: Tensor) -> bool:
        return bool(((means - centre).abs() < 6 * spreads / math.sqrt(n) + 2e-3).all())

    zero, one = torch.zeros_like(mu), torch.ones_like(mu)
    if _alike(spreads, zero):
        return "All variations are the same: draw n codes, each with noise of its own."
    if around(zero) and _alike(spreads, one):
        return "They are drawn from N(0, I): start from mu and sigma of the image."
    if around(zero):
        return "mu is missing."
    if around(root * mu) or around(scale * mu):
        return "mu is scaled, too."
    if around(mu + root * std / 2) and _alike(spreads, root * std / math.sqrt(12)):
        return "The noise should be normal with a mean of 0: torch.randn, and not torch.rand."
    if not around(mu):
        return ""
    causes = {
        "The scale multiplies the standard deviation: take its root.": scale * std,
        "The scale is squared: take its root.": scale**2 * std,
        "The root of the scale is taken twice.": math.sqrt(root) * std,
        "The scale has no effect.": std,
        "exp(logvar) is the variance: the standard deviation is exp(logvar / 2).": root * std**2,
        "What the noise is multiplied by is the variance: take its root.": scale * std**2,
        "logvar itself is taken for the standard deviation.": root * (2 * std.log()).abs(),
        "The root of sigma is taken: it is a standard deviation already.": root * std.sqrt(),
        "The scale multiplies logvar: it belongs before sigma, as a factor.": std**scale,
        "The spread does not depend on logvar.": root * one,
        "The spread does not depend on logvar, and the root of the scale is missing.": scale * one,
        "Neither the scale nor sigma has an effect.": one,
    }
    return likely_cause(spreads, causes, same=_alike)


@check("variations", points=2)
def variations_use_evaluation_mode(submission: Submission) -> None:
    """generate_variations uses evaluation mode, whatever mode the model is in."""
    variations = Variations(submission, training=True)
    images = variations.images(6, 0.0, any_number=True)
    changed = moved(variations.state, variations.model.state())
    call = "Call model.eval() at the start of generate_variations."
    if changed and all(name.startswith("decoder") for name in changed):
        fail("The decoder is in training mode while the variations are made.", call)
    expect(
        not changed,
        "The model is in training mode while the variations are made: BatchNorm works with the "
        "statistics of this one image, and changes its running ones.",
        call,
    )
    expect(
        not any(
            close(images, _decoded_means(variations, len(images), *modes), 1e-3)
            for modes in product((True, False), (True, False))
            if any(modes)
        ),
        "The model is in training mode while the variations are made.",
        call,
    )
    variations.codes(images)


@torch.no_grad()
def _decoded_means(variations: Variations, n: int, encoder: bool, decoder: bool) -> Tensor:
    """The decoded mean, n times, (n, 3, h, w), with parts of the model in training mode."""
    twin = local_twin(variations.state)
    twin.encoder.train(encoder)
    twin.decoder.train(decoder)
    mu: Tensor = twin.mu_layer(twin.encoder(variations.image[None]))
    images: Tensor = twin.decoder(mu.expand(n, -1))
    return images


@check("variations", points=1)
def variations_are_new_in_each_call(submission: Submission) -> None:
    """Two calls give different variations, and no seed is set."""
    variations = Variations(submission)
    images, numbers = [], []
    for _ in range(2):
        images.append(variations.images(5, 1.0, any_number=True))
        after = submission.ask("build", None, "torch.rand", 5)
        numbers.append(expect_tensor(after, (5,), what="What torch.rand gives"))
    expect(
        not close(numbers[0], numbers[1]),
        "generate_variations sets the seed of all random numbers: whatever is random after it is "
        "the same each time.",
        "Set no seed in there.",
    )
    expect(not close(images[0], images[1]), "Two calls give the same variations.")


def _text(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())
