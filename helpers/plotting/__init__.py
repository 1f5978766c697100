"""Figures in one style, as matplotlib ``Figure`` objects.

The last line of a notebook cell shows its figure once; ``display(figure)`` shows it from anywhere,
and ``figure.savefig("name.png")`` saves it. There are figures of images, losses, sweeps, the latent
space and codebooks, diagrams of the models, and pictures with sliders (``explore``).
"""

from helpers.plotting.codes import plot_aggregate, plot_codebook, plot_spread
from helpers.plotting.curves import plot_losses, plot_sweep
from helpers.plotting.diagrams import (
    draw_autoencoder,
    draw_completion,
    draw_denoiser,
    draw_quantiser,
    draw_stages,
    draw_text_to_image,
    draw_vae,
    draw_variations,
)
from helpers.plotting.explorer import explore
from helpers.plotting.images import plot_image_rows, plot_reconstructions, visualize_img_batch
from helpers.plotting.latent import latent_span, plot_latent_space, plot_latent_space_images

__all__ = [
    "draw_autoencoder",
    "draw_completion",
    "draw_denoiser",
    "draw_quantiser",
    "draw_stages",
    "draw_text_to_image",
    "draw_vae",
    "draw_variations",
    "explore",
    "latent_span",
    "plot_aggregate",
    "plot_codebook",
    "plot_image_rows",
    "plot_latent_space",
    "plot_latent_space_images",
    "plot_losses",
    "plot_reconstructions",
    "plot_spread",
    "plot_sweep",
    "visualize_img_batch",
]
