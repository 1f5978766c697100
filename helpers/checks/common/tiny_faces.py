"""What the checks of deliverable 9 lend to a student's functions: a small VAE, a file's path."""

import io
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

#: Size of the images that the tiny model takes, and of its code.
SIDE, LATENT_DIM = 6, 3


class TinyFaceVAE(nn.Module):
    """A VAE for images (N, 3, 6, 6) with BatchNorm, and with nothing random in its forward."""

    def __init__(self) -> None:
        super().__init__()
        n_numbers = 3 * SIDE * SIDE
        self.encoder = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten())
        self.mu_layer = nn.Linear(n_numbers, LATENT_DIM)
        self.logvar_layer = nn.Linear(n_numbers, LATENT_DIM)
        # Linear, so that a code can be told from the image that it gives.
        self.decoder = nn.Sequential(nn.Linear(LATENT_DIM, n_numbers), nn.Unflatten(1, (3, 6, 6)))

    @staticmethod
    def reparameterize(mu: Tensor, logvar: Tensor) -> Tensor:
        """Draws from N(mu, exp(logvar)), (N, Z)."""
        return torch.normal(mu, torch.exp(logvar / 2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 3, 6, 6) -> images, mu (N, 3), logvar (N, 3)."""
        features = self.encoder(images)
        mu = self.mu_layer(features)
        return self.decoder(mu), mu, self.logvar_layer(features)


def new_state() -> dict[str, Tensor]:
    """Weights for a :class:`TinyFaceVAE` whose running statistics are far from any image's."""
    model = TinyFaceVAE()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["encoder.0.running_mean"] = torch.tensor([0.3, -0.8, 1.5])
    state["encoder.0.running_var"] = torch.tensor([0.5, 2.0, 1.2])
    state["mu_layer.weight"] = 0.3 * torch.randn_like(state["mu_layer.weight"])
    state["logvar_layer.weight"] = 0.05 * torch.randn_like(state["logvar_layer.weight"])
    state["logvar_layer.bias"] = torch.tensor([-1.5, 0.0, 1.0])
    state["decoder.0.weight"] = torch.randn_like(state["decoder.0.weight"])
    return state


def local_twin(state: dict[str, Tensor]) -> TinyFaceVAE:
    """A model of ours with these weights, in evaluation mode."""
    model = TinyFaceVAE()
    model.load_state_dict(state)
    return model.eval()


# Files. These run where the student's code runs.


def new_path() -> str:
    """Where a picture may be written: a file that is not there yet, in a folder of its own."""
    return str(Path(tempfile.mkdtemp(prefix="latent-lab-")) / "variations.jpg")


def take_file(path: str) -> list[Tensor]:
    """The bytes of a picture file, (M,), and its pixels (H, W, 3), uint8; the file is removed.

    Both are empty where there is no file, the pixels also where it is no picture.
    """
    file = Path(path)
    content, pixels = b"", torch.zeros(0, 0, 3, dtype=torch.uint8)
    if file.is_file():
        content = file.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as image:
                data = bytearray(image.convert("RGB").tobytes())
                pixels = torch.frombuffer(data, dtype=torch.uint8)
                pixels = pixels.view(image.height, image.width, 3).clone()
        except Exception:  # Pillow raises many kinds for files that are no pictures
            pixels = torch.zeros(0, 0, 3, dtype=torch.uint8)
        file.unlink()
    file.parent.rmdir()
    return [torch.tensor(list(content[:16]), dtype=torch.uint8), pixels]
