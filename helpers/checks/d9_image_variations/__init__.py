"""The checks of deliverable 9 that students see, in the order of the notebook."""

from helpers.checks.d9_image_variations import (  # noqa: F401, I001
    preparation,
    model,
    blocks,
    training,
    best,
    variations,
    saving,
    result,
)
