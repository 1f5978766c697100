"""Figures in one style: images, curves, the latent space, diagrams of the models, sliders."""

from helpers.plotting.codes import plot_aggregate, plot_codebook, plot_spread
from helpers.plotting.curves import plot_losses, plot_sweep
from helpers.plotting.diagrams import (
    draw_autoencoder,
    draw_completion,
    draw_denoiser,
    draw_quantiser,
    draw_text_to_image,
    draw_vae,
    draw_variations,
)
from helpers.plotting.explorer import explore
from helpers.plotting.images import plot_image_rows, plot_reconstructions, visualize_img_batch
from helpers.plotting.latent import latent_span, plot_latent_space, plot_latent_space_images
from helpers.plotting.stages import draw_stages

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
