"""The digit classifier that ships with the kit."""

import json

from helpers.data import mnist_tensors
from helpers.models import recognise
from helpers.models.digit_classifier import WEIGHTS


def test_accuracy_is_what_the_file_beside_it_says() -> None:
    images, labels = mnist_tensors(train=False)
    accuracy = float((recognise(images) == labels).float().mean())
    assert accuracy >= 0.99
    about = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert abs(accuracy - about["test_accuracy"]) < 1e-3
