"""Makes the data that a notebook finds in the sandbox instead of the real data sets.

A model must not see the images on which it is judged, but a notebook's cells load data and must
find something to load. They find a few hundred smooth random blobs in the formats of MNIST and
CIFAR-10. With so few images, a training loop that a student left in a cell of their own also ends
quickly.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional

from helpers.data import write_idx, write_sample

_N_TRAIN, _N_TEST = 256, 64


@cache
def standin_folder() -> Path:
    """A folder with the stand-in data, readable by everyone; it is removed with this process."""
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
