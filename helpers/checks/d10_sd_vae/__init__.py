"""The checks of deliverable 10 that students see, in the order of the notebook."""

from helpers.checks.d10_sd_vae import (  # noqa: F401, I001
    attention,
    blocks,
    networks,
    model,
    training,
    repairs,
    result,
)
