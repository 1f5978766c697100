"""What several test files need: the reference, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from autograder.demo import hand_in
from autograder.master import Master, load_master


@pytest.fixture(scope="session")
def master() -> Master:
    return load_master("d1_autoencoder")


@pytest.fixture(scope="session")
def trained_zip(master: Master, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference, trained on real MNIST in a real kernel at the real settings, handed in.

    It takes most of a minute: tests that use it share one worker by the xdist group "trained".
    """
    folder = tmp_path_factory.mktemp("reference")
    hand_in(master, "reference", {}, folder / "work", folder)
    return folder / f"{master.deliverable.id}-reference.zip"
