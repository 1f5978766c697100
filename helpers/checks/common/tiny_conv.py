"""A model like that of deliverable 8, with which a student's functions are tried out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from helpers.checks.common.kept import Kept
from helpers.checks.common.standin import standing_in
from helpers.checks.common.tiny import Recorder


class TinyConvEncoder(nn.Module):
    """In place of the notebook's Encoder: (N, 1, 28, 28) -> mu and logvar, (N, Z) each."""

    def __init__(self, capacity: int, latent_dims: int) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(784, 8 * capacity), nn.Tanh())
        self.fc_mu, self.fc_logvar = (nn.Linear(8 * capacity, latent_dims) for _ in range(2))
        widen(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 1, 28, 28)."""
        features = self.features(self.recorder(x))
        return self.fc_mu(features), self.fc_logvar(features)


class TinyConvDecoder(nn.Module):
    """In place of the notebook's Decoder: (N, Z) -> (N, 1, 28, 28)."""

    def __init__(self, capacity: int, latent_dims: int) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.fc = nn.Linear(latent_dims, 8 * capacity)
        self.pixels = nn.Sequential(nn.Tanh(), nn.Linear(8 * capacity, 784), nn.Sigmoid())
        widen(self)

    def forward(self, z: Tensor) -> Tensor:
        """Codes (N, Z)."""
        self.recorder(z)  # which would cut the gradient if its answer were used
        pixels: Tensor = self.pixels(self.fc(z))
        return pixels.view(-1, 1, 28, 28)


class TinyConvVAE(nn.Module):
    """The notebook's VariationalAutoencoder, made of these two."""

    def __init__(self, capacity: int, latent_dims: int) -> None:
        super().__init__()
        self.encoder = TinyConvEncoder(capacity, latent_dims)
        self.decoder = TinyConvDecoder(capacity, latent_dims)

    def latent_sample(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Codes (N, Z): drawn in training, mu itself in evaluation."""
        return Normal(mu, (logvar / 2).exp()).rsample() if self.training else mu

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 1, 28, 28) -> images like them, mu and logvar (N, Z)."""
        mu, logvar = self.encoder(x)
        z = self.latent_sample(mu, logvar)
        return self.decoder(z), mu, logvar


def widen(module: nn.Module) -> None:
    """Double all parameters: those of new layers are so small that answers hardly differ."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)


def with_right_parts(model_class: type[nn.Module], capacity: int, latent_dims: int) -> nn.Module:
    """A model of the student's class in which Encoder and Decoder are right."""
    parts = {"Encoder": TinyConvEncoder, "Decoder": TinyConvDecoder}
    with standing_in(model_class.__init__, parts):
        return model_class(capacity=capacity, latent_dims=latent_dims)


class KeptWithToImg(Kept):
    """Calls a student's function with a right ``to_img``."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        with standing_in(function, {"to_img": lambda x: x.clamp(0, 1)}):
            super().__init__(function, *args)
