"""Models like those of deliverable 7, with which a student's functions are tried out."""

import torch
from torch import Tensor, nn

from helpers.checks.common.tiny import Recorder


class TinyEncoder(nn.Module):
    """The notebook's Encoder: (N, input_dim) -> mean and log variance, (N, latent_dim) each."""

    def __init__(self, input_dim: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.hidden = nn.Sequential(
            nn.Linear(input_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
        )
        self.mean = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, input_dim)."""
        hidden = self.hidden(self.recorder(x))
        return self.mean(hidden), self.log_var(hidden)


class TinyDecoder(nn.Sequential):
    """The notebook's Decoder: (N, latent_dim) -> probabilities (N, output_dim)."""

    def __init__(self, latent_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, output_dim),
            nn.Sigmoid(),
        )


class TinyBernoulliVAE(nn.Module):
    """The model that students write.

    New layers give codes and pixels that hardly differ; larger weights make mistakes visible. The
    posterior is somewhat wider than the prior: otherwise the weights of the codes do not vary.

    Args:
        image_dim, hidden_dim, latent_dim: sizes.
        is_random: whether codes are drawn; otherwise they lie a little beside the means.
    """

    def __init__(
        self, image_dim: int, hidden_dim: int, latent_dim: int, is_random: bool = True
    ) -> None:
        super().__init__()
        self.is_random = is_random
        self.encoder = TinyEncoder(image_dim, hidden_dim, latent_dim)
        self.decoder = TinyDecoder(latent_dim, hidden_dim, image_dim)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(2)
            self.encoder.log_var.weight.mul_(0.1)
            self.encoder.log_var.bias.copy_(0.5 + 0.05 * torch.randn(latent_dim))

    def reparameterization(self, mean: Tensor, std: Tensor) -> Tensor:
        """Codes (N, Z) from N(mean, std^2)."""
        return mean + std * (torch.randn_like(std) if self.is_random else 0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images (N, D) -> theta (N, D), mean, log_var and z, (N, Z) each."""
        mean, log_var = self.encoder(x)
        z = self.reparameterization(mean, log_var.div(2).exp())
        return self.decoder(z), mean, log_var, z
