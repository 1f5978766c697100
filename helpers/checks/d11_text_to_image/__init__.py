"""The checks of deliverable 11 that students see, in the order of the notebook.

The student's functions run with the parts in :mod:`helpers.checks.common.tiny_diffusion`, which
record what they are given. So each check looks at one step alone, and a mistake in another step
does not matter to it.
"""

from helpers.checks.d11_text_to_image import embeddings, latents, images, result  # noqa: F401, I001
