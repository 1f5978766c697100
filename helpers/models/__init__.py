"""Trained models that come with the kit.

``recognise`` tells which digits are in images. ``load_parts`` loads the parts of a text-to-image
model: a small one that draws coloured digits, or Stable Diffusion.
"""

from helpers.models.digit_classifier import DigitClassifier, digit_classifier, recognise
from helpers.models.digit_diffusion import (
    DIGIT_COLOURS,
    DIGITS,
    LATENT_SCALE,
    SMALL,
    Parts,
    grey_digits,
    load_parts,
)

__all__ = [
    "DIGITS",
    "DIGIT_COLOURS",
    "LATENT_SCALE",
    "SMALL",
    "DigitClassifier",
    "Parts",
    "digit_classifier",
    "grey_digits",
    "load_parts",
    "recognise",
]
