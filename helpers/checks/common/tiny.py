"""Small models with which a student's training loop is tried out."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


def _in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Compute without the autocast of the loop, so that only one result is right."""

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return computed


class Recorder(nn.Module):
    """Returns its input and records each call.

    A call is trained on if a gradient is computed through it. Other calls, which watch the training
    or validate, change nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []
        self.was_training: list[bool] = []
        self.with_gradients: list[bool] = []
        self.trained_on: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        """The input."""
        if not images.is_floating_point():
            raise TypeError(
                f"the model is given numbers of type {images.dtype}, as labels are: give it images"
            )
        number = len(self.inputs)
        self.inputs.append(images.detach().clone())
        self.was_training.append(self.training)
        self.with_gradients.append(torch.is_grad_enabled())
        self.trained_on.append(False)
        if not torch.is_grad_enabled():
            return images
        watched = images.detach().clone().requires_grad_()
        watched.register_hook(lambda _: self.trained_on.__setitem__(number, True))
        return watched


class RecordingSGD(torch.optim.SGD):
    """SGD with momentum 0.9 that records the learning rate of each step."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr=lr, momentum=0.9)
        self.rates: list[float] = []

    def step(self, closure: Any = None) -> Any:
        """One update."""
        self.rates.append(float(self.param_groups[0]["lr"]))
        return super().step(closure)


class TinyAutoencoder(nn.Module):
    """One linear layer on each side: (N, 1, 28, 28) -> (N, 3) -> (N, 1, 28, 28).

    Args:
        gives: what it returns, such as "images" or "images code".
    """

    def __init__(self, gives: str = "images") -> None:
        super().__init__()
        self.gives = gives.split()
        self.recorder = Recorder()
        self.encoder = nn.Sequential(self.recorder, nn.Flatten(), nn.Linear(784, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))

    @_in_float32
    def forward(self, images: Tensor) -> Any:
        """Images (N, 1, 28, 28), or several things of which they are one."""
        code = self.encoder(images)
        known = {"images": self.decoder(code), "code": code}
        answers = tuple(known[each] for each in self.gives)
        return answers if len(answers) > 1 else answers[0]


class TinyBaseline(TinyAutoencoder):
    """The same of quarters: (N, 196) -> (N, 3) -> (N, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(self.recorder, nn.Linear(196, 3))

    @_in_float32
    def forward(self, images: Tensor) -> Any:
        """Images (N, 1, 28, 28), from quarters (N, 196)."""
        if images.ndim != 2 or images.shape[1] != 196:
            raise ValueError(f"the model takes quarters (N, 196), and not {tuple(images.shape)}")
        return super().forward(images)


class TinyVAE(nn.Module):
    """Like a variational autoencoder for images of 784 pixels, but without random numbers.

    Args:
        condition_dim: size C of the condition.
        gives_code: whether the code is returned as well, as in deliverable 7.
    """

    def __init__(self, condition_dim: int = 0, gives_code: bool = False) -> None:
        super().__init__()
        self.gives_code = gives_code
        self.condition_dim = condition_dim
        self.recorder, self.condition_recorder = Recorder(), Recorder()
        #: What it returned, call by call.
        self.returned: list[list[Tensor]] = []
        self.encoder = nn.Linear(784 + condition_dim, 6)
        self.decoder = nn.Linear(3 + condition_dim, 784)

    @_in_float32
    def forward(self, images: Tensor, c: Tensor | None = None) -> tuple[Tensor, ...]:
        """Images (N, ...), condition (N, C) -> images, mu (N, 3), logvar (N, 3), z (N, 3)."""
        if self.condition_dim and c is None:
            raise TypeError("the model is called without the condition: model(images, condition)")
        if c is not None and tuple(c.shape) != (len(images), self.condition_dim):
            right = (len(images), self.condition_dim)
            raise ValueError(f"the condition should have shape {right}, not {tuple(c.shape)}")
        parts = [] if c is None else [self.condition_recorder(c)]
        codes = self.encoder(torch.cat([self.recorder(images).flatten(1), *parts], dim=1))
        mu, logvar = codes.chunk(2, dim=1)
        z = mu + 0.1 * torch.exp(logvar / 2)
        x_hat = torch.sigmoid(self.decoder(torch.cat([z, *parts], dim=1))).view(images.shape)
        self.returned.append([each.detach().clone() for each in (x_hat, mu, logvar)])
        return (x_hat, mu, logvar, z) if self.gives_code else (x_hat, mu, logvar)


class RecordingLoss:
    """Keeps what it is given, call by call."""

    #: Which of its arguments are the images.
    images_at = 1

    def __init__(self) -> None:
        self.given: list[list[Tensor]] = []

    def record(self, *tensors: Tensor) -> None:
        """Keep the arguments of one call."""
        self.given.append([tensor.detach().clone() for tensor in tensors])


class TinyLoss(RecordingLoss):
    """Takes the arguments of a variational autoencoder's loss, but computes something else.

    With it a check finds out whether a training loop uses the loss that it is given, and gives it
    its arguments in the right order: no two of them may be exchanged.
    """

    @_in_float32
    def __call__(self, x_hat: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        """The mean over a batch, a number."""
        self.record(x_hat, x, mu, logvar)
        errors = ((1 + x) * (x_hat - x).square()).flatten(1).mean(dim=1)
        return (errors + 0.1 * mu.square().sum(dim=1) + 0.05 * logvar.exp().sum(dim=1)).mean()


class TinyLossOfMeans(TinyLoss):
    """The same loss with the arguments' names of deliverable 10."""

    def __call__(self, x_hat: Tensor, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        """The mean over a batch, a number."""
        return super().__call__(x_hat, x, mean, logvar)


class TinySummedLoss(RecordingLoss):
    """The same loss, summed over the batch, for deliverable 8."""

    @_in_float32
    def __call__(self, recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        """The sum over a batch, a number."""
        self.record(recon_x, x, mu, logvar)
        return len(x) * TinyLoss()(recon_x, x, mu, logvar)


class TinyElbo(RecordingLoss):
    """The summed loss with the arguments of deliverable 7."""

    images_at = 0

    @_in_float32
    def __call__(self, x: Tensor, theta: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        """The sum over a batch, a number."""
        self.record(x, theta, mean, log_var)
        return TinySummedLoss()(theta, x, mean, log_var)


class RecordingMSELoss(RecordingLoss, nn.MSELoss):
    """nn.MSELoss that keeps what it is given."""

    def __init__(self) -> None:
        nn.MSELoss.__init__(self)
        RecordingLoss.__init__(self)

    @_in_float32
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The mean squared error."""
        self.record(input, target)
        return super().forward(input, target)


class LopsidedLoss(RecordingLoss):
    """A squared error in which the two images cannot be exchanged, as in a cross-entropy."""

    @_in_float32
    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """The mean over a batch, a number."""
        self.record(x_hat, x)
        return ((1 + x) * (x_hat - x).square()).mean()


class DrawingModel(nn.Module):
    """With the parts of a conditional VAE that code for drawing needs, in small.

    Args:
        latent_dim: numbers in a code.
        condition_dim: numbers in a condition.
    """

    def __init__(self, latent_dim: int, condition_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784 + condition_dim, 32), nn.Tanh())
        self.mu_layer, self.logvar_layer = nn.Linear(32, latent_dim), nn.Linear(32, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim + condition_dim, 32),
            nn.Tanh(),
            nn.Linear(32, 784),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        )


class TinyVQVAE(nn.Module):
    """Like a VQ-VAE without quantisation; the first output stands for the quantiser's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.encoder = nn.Linear(784, 3)
        self.decoder = nn.Linear(3, 784)

    @_in_float32
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 1, 28, 28) -> a loss, images (N, 1, 28, 28), a perplexity."""
        codes = self.encoder(self.recorder(images).flatten(1))
        x_hat = torch.sigmoid(self.decoder(codes)).view(-1, 1, 28, 28)
        return 0.1 * codes.square().mean(), x_hat, codes.detach().exp().mean()
