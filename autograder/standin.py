"""What a notebook finds in the sandbox in place of the real data sets.

A model that is judged must not meet the images that it is judged on; but a notebook's cells load
data, and must find something to load. It gets a few hundred smooth random blobs in the format of
MNIST and of CIFAR-10, which also makes a training loop that a student left in a cell of their own
end at once.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional

from helpers.cifar10 import write_sample
from helpers.data import write_idx

_N_TRAIN, _N_TEST = 256, 64


@cache
def standin_folder() -> Path:
    """A folder with the stand-in, readable by everyone, for as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="latent-lab-standin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    generator = torch.Generator().manual_seed(0)
    for train, n_images in ((True, _N_TRAIN), (False, _N_TEST)):
        coarse = torch.rand(n_images, 1, 7, 7, generator=generator)
        smooth = functional.interpolate(coarse, size=28, mode="bilinear")
        pixels = (255 * (2 * smooth - 1).clamp(0, 1)).to(torch.uint8)[:, 0]
        labels = torch.randint(10, (n_images,), generator=generator)
        write_idx(folder, pixels, labels, train=train)
        colours = torch.rand(n_images, 3, 4, 4, generator=generator)
        colours = functional.interpolate(colours, size=32, mode="bilinear")
        write_sample(folder, (255 * colours).to(torch.uint8), labels, train=train)
    return folder
