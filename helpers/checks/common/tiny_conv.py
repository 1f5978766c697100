"""A model like that of deliverable 8, with which a student's functions are tried out."""

import inspect
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from helpers.checks.common.tiny import Recorder


class TinyConvEncoder(nn.Module):
    """The notebook's Encoder, with a recorder: (N, 1, 28, 28) -> mu and logvar, (N, Z) each."""

    def __init__(self, capacity: int, latent_dims: int) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.conv1 = nn.Conv2d(1, capacity, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(capacity, 2 * capacity, 4, stride=2, padding=1)
        self.fc_mu = nn.Linear(2 * capacity * 49, latent_dims)
        self.fc_logvar = nn.Linear(2 * capacity * 49, latent_dims)
        widen(self)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 1, 28, 28)."""
        x = torch.relu(self.conv1(self.recorder(x)))
        x = torch.relu(self.conv2(x)).flatten(1)
        return self.fc_mu(x), self.fc_logvar(x)


class TinyConvDecoder(nn.Module):
    """The notebook's Decoder, with a recorder: (N, Z) -> (N, 1, 28, 28)."""

    def __init__(self, capacity: int, latent_dims: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.recorder = Recorder()
        self.fc = nn.Linear(latent_dims, 2 * capacity * 49)
        self.conv2 = nn.ConvTranspose2d(2 * capacity, capacity, 4, stride=2, padding=1)
        self.conv1 = nn.ConvTranspose2d(capacity, 1, 4, stride=2, padding=1)
        widen(self)

    def forward(self, z: Tensor) -> Tensor:
        """Codes (N, Z)."""
        x = self.fc(z)
        self.recorder(z)  # which would cut the gradient if its answer were used
        x = torch.relu(self.conv2(x.view(-1, 2 * self.capacity, 7, 7)))
        return torch.sigmoid(self.conv1(x))


class TinyConvVAE(nn.Module):
    """The notebook's VariationalAutoencoder, made of these two."""

    def __init__(self, capacity: int, latent_dims: int) -> None:
        super().__init__()
        self.encoder = TinyConvEncoder(capacity, latent_dims)
        self.decoder = TinyConvDecoder(capacity, latent_dims)

    def latent_sample(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Codes (N, Z): drawn in training, mu itself in evaluation."""
        if not self.training:
            return mu
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 1, 28, 28) -> images like them, mu and logvar (N, Z)."""
        mu, logvar = self.encoder(x)
        return self.decoder(self.latent_sample(mu, logvar)), mu, logvar


def widen(module: nn.Module) -> None:
    """Double all parameters: those of new layers are so small that answers hardly differ."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)


def with_right_parts(model_class: type[nn.Module], capacity: int, latent_dims: int) -> nn.Module:
    """A model of the student's class in which Encoder and Decoder are right."""
    names = inspect.unwrap(model_class.__init__).__globals__
    with patch.dict(names, Encoder=TinyConvEncoder, Decoder=TinyConvDecoder):
        return model_class(capacity=capacity, latent_dims=latent_dims)


class CalledWithToImg:
    """Calls a student's function with a right ``to_img``, and keeps what it returned."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        names = getattr(inspect.unwrap(function), "__globals__", {})
        with patch.dict(names, to_img=lambda x: x.clamp(0, 1)):
            self._result = function(*args)

    def get_result(self) -> Any:
        """What the function returned."""
        return self._result

    def get_requires_grad(self) -> bool:
        """Whether that carries gradients."""
        return bool(getattr(self._result, "requires_grad", False))
