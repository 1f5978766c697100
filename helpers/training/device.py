"""The device to compute on: GPU or CPU."""

import torch


def pick_device() -> torch.device:
    """The fastest available device: ``cuda``, else ``mps`` (Apple), else ``cpu``."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
