"""The checks of the variations, and of the file that shows them."""

import math

import torch
from torch import Tensor

from helpers.checking import Submission, check, close, expect, expect_tensor, fail
from helpers.checks.common.tiny_faces import LATENT_DIM as TINY_DIM
from helpers.checks.common.tiny_faces import SIDE, local_twin, new_state
from helpers.checks.d9_image_variations.training import same_values


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
        self.model = submission.build("helpers.checks.common.tiny_faces.TinyFaceVAE")
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
    moved = [name for name, value in found.state.items() if not same_values(state, name, value)]
    trained = near[1] < min(0.01, near[0])
    expect(
        not moved and not trained,
        "The model is in training mode while the variations are made: BatchNorm works with the "
        "statistics of this one image.",
        "Call model.eval() at the start of generate_variations.",
    )


def _text(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())


@check("saving", points=4)
def grid_is_saved_as_jpeg(submission: Submission) -> None:
    """save_variations writes a JPEG file that shows the image and all of its variations."""
    side = 32
    colours = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [0.5, 0.5, 0.5]]
    )
    flat = colours[:, :, None, None].expand(-1, 3, side, side).contiguous()
    path = submission.ask("build", None, "helpers.checks.common.tiny_faces.new_path")
    submission.call("save_variations", path, flat[0], flat[1:])
    answer = submission.ask("build", None, "helpers.checks.common.tiny_faces.take_file", path)
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
