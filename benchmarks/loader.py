"""Compares ``helpers.data.Loader`` with a DataLoader with two workers: seconds per epoch."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from machine import save
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import ToTensor

from helpers.data import MNIST, Loader

REPEATS = 3


def seconds(action: Callable[[], Any]) -> float:
    """The seconds that an action takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def train(batches: Any) -> None:
    """One epoch of an autoencoder of the reference's size."""
    torch.manual_seed(0)
    sizes = [784, 400, 400, 2, 400, 400, 784]
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    model = nn.Sequential(nn.Flatten(), *(m for layer in layers for m in (layer, nn.LeakyReLU())))
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    for images, _ in batches:
        adam.zero_grad()
        nn.functional.mse_loss(model(images), images.flatten(1)).backward()
        adam.step()


def iterate(batches: Any) -> None:
    """One epoch of loading only."""
    for _ in batches:
        pass


def main() -> None:
    """Measure, print a table, and save the results."""
    dataset = MNIST(train=True, transform=ToTensor())
    results: dict[str, Any] = {"unit": "seconds an epoch of 60,000 images, best of 3, alternating"}
    print(f"{'batch':>5} {'epoch of':>10} {'Loader':>8} {'DataLoader(2)':>14} {'ratio':>6}")
    for batch_size in (50, 128):
        ours = Loader(dataset, batch_size, shuffle=True)
        theirs = DataLoader(dataset, batch_size, shuffle=True, num_workers=2)
        for name, work in (("loading", iterate), ("training", train)):
            times: dict[str, list[float]] = {"Loader": [], "DataLoader": []}
            for _ in range(REPEATS):
                times["Loader"].append(seconds(lambda work=work, it=ours: work(it)))
                times["DataLoader"].append(seconds(lambda work=work, it=theirs: work(it)))
            a, b = min(times["Loader"]), min(times["DataLoader"])
            print(f"{batch_size:5} {name:>10} {a:8.2f} {b:14.2f} {b / a:6.1f}")
            results[f"{name}, batch {batch_size}"] = {
                "Loader": round(a, 3),
                "DataLoader, 2 workers": round(b, 3),
                "ratio": round(b / a, 1),
            }
    save("loader", results)


if __name__ == "__main__":
    main()
