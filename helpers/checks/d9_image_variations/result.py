"""The checks of the trained model."""

import math
import secrets
from dataclasses import dataclass

import torch

from helpers.checking import StudentError, Submission, check, expect
from helpers.checks.common.results import (
    RUN_AGAIN,
    check_learned,
    expect_low,
    once,
)
from helpers.checks.common.settings import learned, within_budget
from helpers.checks.d9_image_variations.model import D9
from helpers.checks.d9_image_variations.training import terms
from helpers.data import face_tensors
from helpers.deliverables import FACE_SIZES


@dataclass(frozen=True)
class Findings:
    """What is found of the trained model, on faces that it has not seen."""

    #: Squared error and KL divergence per image.
    error: float
    kl: float
    #: How many variations are closer to their own image than to any other.
    n_closest: int
    #: Root mean square distance of variations from the decoded mean, by scale.
    spread: dict[float, float]

    @property
    def test(self) -> float:
        """The loss, squared error plus KL divergence: all faces are new ones."""
        return self.error + self.kl

    training = test


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
    expect(hidden.ndim > 1, "The encoder should make vectors of images.")
    hidden = hidden.flatten(1)  # its shape is another check's matter
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
        n_closest=int((distances.argmin(dim=1) == own).sum()),
        spread=spread,
    )


#: A model that always answers with the mean face loses about 2,900.
LEARNED_SOMETHING = 2_000.0

check_learned(
    __name__,
    findings,
    points=2,
    below=LEARNED_SOMETHING,
    figure="Loss {:.0f}",
    instead=" on new faces: the mean face alone would reach about 2,900.",
    of="test",
    hint=f'Was it trained with size = "small"? {RUN_AGAIN}',
    title="The trained model does clearly better than the mean face would.",
)


@check("result", points=6)
def loss_on_new_faces_is_low(submission: Submission) -> str:
    """The trained model's loss on faces that it has not seen is low enough."""
    found = findings(submission)
    return expect_low(
        f"Loss {found.test:.0f} on new faces",
        found.test,
        D9.max_loss,
        "Is the best epoch's model the one that was kept?",
        f", of which the KL divergence is {found.kl:.0f}",
    )


@check("result", points=3)
def variations_stay_close_to_their_image(submission: Submission) -> str:
    """Variations with a scale of 0.01 are closer to their own image than to any other."""
    count, n_all = findings(submission).n_closest, N_VARIED * N_VARIATIONS
    least = math.ceil(D9["min_closest"] * n_all - 1e-9)
    found = f"{count} of {n_all} variations are closest to their own image"
    expect(count >= least, f"{found}; it should be at least {least}.")
    return f"{found}."


@check("result", points=1)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    return within_budget(learned(submission.checkpoint("vae")), D9)


@check("result", points=0)
def handed_in_is_the_best_epoch(submission: Submission) -> str:
    """The model's loss agrees with the lowest that your validation reported."""
    losses = submission.losses("vae")
    if not losses:
        raise StudentError("unattempted", "There is no record of a training yet.")
    measured, best = findings(submission).test, min(losses)
    # Other faces and other draws of the codes: two standard errors of the mean are 5%.
    expect(
        math.isclose(measured, best, rel_tol=0.15),
        f"The best epoch reported {best:.0f}, but the model's loss is {measured:.0f}.",
        "Are the best epoch's weights those that were kept? Does evaluate average right?",
    )
    epoch = f"epoch {losses.index(best) + 1} of {len(losses)}"
    return f"The best was {epoch}: {best:.0f}; measured {measured:.0f}."
