"""Stand-ins for the parts of a student's model, so that a mistake costs only the part it is in.

They take and give arrays of the right shapes, and are otherwise as simple as can be.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from helpers.checks.common.standin import standing_in


class ResidualBlock(nn.Conv2d):
    """(N, in_channels, h, w) -> (N, out_channels, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, *_: Any, **__: Any) -> None:
        super().__init__(in_channels, out_channels, 1)


class AttentionBlock(nn.Conv2d):
    """(N, channels, h, w) -> the same."""

    def __init__(self, channels: int, *_: Any, **__: Any) -> None:
        super().__init__(channels, channels, 1)


class Downsample(nn.Conv2d):
    """(N, channels, h, w) -> (N, channels, h / 2, w / 2)."""

    def __init__(self, channels: int, *_: Any, **__: Any) -> None:
        super().__init__(channels, channels, 2, stride=2)


class Upsample(nn.ConvTranspose2d):
    """(N, channels, h, w) -> (N, channels, 2h, 2w)."""

    def __init__(self, channels: int, *_: Any, **__: Any) -> None:
        super().__init__(channels, channels, 2, stride=2)


class Encoder(nn.Conv2d):
    """(N, 3, h, w) -> (N, 8, h / 8, w / 8)."""

    def __init__(self, base_channels: int = 128, *_: Any, **__: Any) -> None:
        super().__init__(3, 8, 8, stride=8)
        self.base_channels = base_channels


class Decoder(nn.ConvTranspose2d):
    """(N, 4, h / 8, w / 8) -> (N, 3, h, w)."""

    def __init__(self, base_channels: int = 128, *_: Any, **__: Any) -> None:
        super().__init__(4, 3, 8, stride=8)
        self.base_channels = base_channels


class SelfAttention(nn.Module):
    """(N, T, embed_dim) -> the same; as with attention, the order of the vectors plays no part."""

    def __init__(self, n_heads: int, embed_dim: int, *_: Any, **__: Any) -> None:
        super().__init__()
        self.n_heads, self.embed_dim = n_heads, embed_dim
        self.each, self.all = nn.Linear(embed_dim, embed_dim), nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """A sum of something about each vector and of something about all of them."""
        mixed: Tensor = self.each(x) + self.all(x.tanh().mean(dim=1, keepdim=True))
        return mixed


def made_with(made: Callable[..., Any], names: Sequence[str], *args: Any) -> Any:
    """What a student's class gives while classes of this module stand for those called ``names``.

    The student's code finds them where it looks for its own: among the names of the notebook.
    """
    with standing_in(made.__init__, {name: globals()[name] for name in names}):
        return made(*args)
