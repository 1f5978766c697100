"""The checks of deliverable 9 that students do not see."""

import torch

from autograder.judging.checks.common import check_training_mode
from helpers.checking import Submission, check, expect
from helpers.checks.common.architecture import expect_all_used
from helpers.checks.common.results import RUN_AGAIN
from helpers.checks.common.vae_loss import expect_sampled_kl
from helpers.checks.d9_image_variations.model import LATENT_DIM, pictures, working_vae
from helpers.checks.d9_image_variations.result import LEARNED_SOMETHING, SCALES, findings
from helpers.checks.d9_image_variations.training import trial


@check("architecture", points=2)
def gradients_reach_every_parameter(submission: Submission) -> None:
    """Every parameter, those of mu_layer and logvar_layer too, has a part in the image."""
    model, size = working_vae(submission)
    # The sum of all pixels, so that their number does not matter here.
    gradients = model.differentiate("", pictures(5, size), pick=0).parameters
    # What reparameterize does not let through is another check's matter.
    codes = torch.randn(5, LATENT_DIM), torch.randn(5, LATENT_DIM)
    through = model.differentiate("reparameterize", *codes, wrt=(0, 1)).inputs
    closed = tuple(
        f"{name}."
        for name, gradient in zip(("mu_layer", "logvar_layer"), through, strict=True)
        if gradient is None
    )
    if len(closed) == 2:  # nothing before the draw can have a gradient
        closed = (*closed, "encoder.")
    expect_all_used({k: v for k, v in gradients.items() if not k.startswith(closed)})


@check("loss", points=1)
def kl_agrees_with_sampling(submission: Submission) -> None:
    """The KL divergence in the loss is what sampling finds."""
    expect_sampled_kl(submission)


check_training_mode(__name__, trial, points=1, lr=0.01)


@check("result", points=1)
def variation_grows_with_the_scale(submission: Submission) -> str:
    """The images differ more the larger the scale is."""
    found = findings(submission)
    expect(found.test < LEARNED_SOMETHING, "The model has learned nothing yet.", RUN_AGAIN)
    low, high = (found.spread[scale] for scale in SCALES)
    note = f"Variations are {low:.2g} from the decoded mean at scale {SCALES[0]:g}"
    note += f" and {high:.2g} at scale {SCALES[1]:g}"
    expect(0 < 3 * low < high, f"{note}; expected is at least three times as much.")
    return f"{note} (root mean square)."
