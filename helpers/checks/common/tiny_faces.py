"""What the checks of deliverable 9 lend to a student's functions: a small VAE, a file's path."""

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

#: Size of the images that the tiny model takes, and of its code.
SIDE, LATENT_DIM = 6, 3
#: How far a code lies above its mean, in standard deviations, where nothing may be random.
OFFSET = 0.5


class TinyFaceVAE(nn.Module):
    """A VAE for images (N, 3, 6, 6) with BatchNorm in its encoder and in its decoder.

    Args:
        offset: how many standard deviations each code lies above its mean; None draws codes.
    """

    def __init__(self, offset: float | None = None) -> None:
        super().__init__()
        n_numbers = 3 * SIDE * SIDE
        self.offset = offset
        self.encoder = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
        self.mu_layer = nn.Linear(n_numbers, LATENT_DIM)
        self.logvar_layer = nn.Linear(n_numbers, LATENT_DIM)
        self.decoder = nn.Sequential(
            nn.Linear(LATENT_DIM, n_numbers),
            nn.Unflatten(1, (3, SIDE, SIDE)),
            nn.BatchNorm2d(3),
            nn.Sigmoid(),
        )
        #: For each decoding, whether autocast was on.
        self.with_autocast: list[bool] = []
        self.decoder.register_forward_pre_hook(self._record)

    def _record(self, *_: Any) -> None:
        self.with_autocast.append(torch.is_autocast_enabled("cpu"))

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Codes (N, Z) from N(mu, exp(logvar))."""
        drawn = torch.randn_like(mu)
        eps = drawn if self.offset is None else torch.full_like(mu, self.offset)
        return mu + torch.exp(logvar / 2) * eps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 3, 6, 6) -> images, mu (N, 3), logvar (N, 3)."""
        features = self.encoder(images)
        mu, logvar = self.mu_layer(features), self.logvar_layer(features)
        z = self.reparameterize(mu, logvar)
        return self.decoder(z), mu, logvar


def new_state() -> dict[str, Tensor]:
    """Weights for a :class:`TinyFaceVAE` whose running statistics are far from any image's."""
    model = TinyFaceVAE()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["encoder.0.running_mean"] = torch.tensor([0.3, -0.8, 1.5])
    state["encoder.0.running_var"] = torch.tensor([0.5, 2.0, 1.2])
    state["decoder.2.running_mean"] = torch.tensor([0.4, -0.5, 0.2])
    state["decoder.2.running_var"] = torch.tensor([1.6, 0.7, 1.2])
    state["mu_layer.weight"] = 0.05 * torch.randn_like(state["mu_layer.weight"])
    # No mean is near 0, so that one that is missing or scaled shows.
    state["mu_layer.bias"] = torch.tensor([2.5, -3.0, 2.0])
    state["logvar_layer.weight"] = 0.05 * torch.randn_like(state["logvar_layer.weight"])
    state["logvar_layer.bias"] = torch.tensor([-1.5, 0.0, 1.0])
    # Small, so that the Sigmoid can be undone: each image tells the code that it came from.
    state["decoder.0.weight"] = 0.1 * torch.randn_like(state["decoder.0.weight"])
    return state


def local_twin(state: dict[str, Tensor], *, offset: float | None = None) -> TinyFaceVAE:
    """A model of ours with these weights, in evaluation mode."""
    model = TinyFaceVAE(offset)
    model.load_state_dict(state)
    return model.eval()


# What follows runs where the student's code runs.


_FOLDERS = "latent-lab-picture-"


def new_path() -> str:
    """Where a picture may be written: a file that is not there yet, in a folder of its own."""
    return str(Path(tempfile.mkdtemp(prefix=_FOLDERS)) / "variations.jpg")


def take_file(path: str) -> list[Tensor]:
    """The first bytes of a file, (M,), and its pixels (H, W, 3), uint8; its folder is removed.

    Both are empty where there is no file, the pixels also where it is no picture.

    Args:
        path: from :func:`new_path`; no other file is read, and no other folder removed.
    """
    file = Path(path)
    folder, temporary = file.parent, Path(tempfile.gettempdir())
    ours = folder.parent == temporary and folder.name.startswith(_FOLDERS)
    content, pixels = b"", torch.zeros(0, 0, 3, dtype=torch.uint8)
    if ours and file.is_file():
        content = file.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as image:
                data = bytearray(image.convert("RGB").tobytes())
                pixels = torch.frombuffer(data, dtype=torch.uint8)
                pixels = pixels.view(image.height, image.width, 3).clone()
        except Exception:  # Pillow raises many kinds for files that are no pictures
            pixels = torch.zeros(0, 0, 3, dtype=torch.uint8)
    if ours:
        shutil.rmtree(folder, ignore_errors=True)
    return [torch.tensor(list(content[:16]), dtype=torch.uint8), pixels]
