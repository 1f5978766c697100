"""What counts as a parameter."""

import torch
from torch import nn

from helpers.budget import count_parameters
from helpers.checks.common.settings import learned, without_running_statistics


def test_the_count_is_that_of_the_notebook() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.BatchNorm2d(5, affine=False))
    kept = without_running_statistics(model.state_dict())
    assert sum(value.numel() for value in kept.values()) == count_parameters(model)


def test_a_large_tensor_is_no_statistic_by_its_name() -> None:
    state = {"a.weight": torch.zeros(2), "a.running_mean": torch.zeros(500)}
    assert without_running_statistics(state) == state


def test_a_layer_of_two_names_counts_once() -> None:
    half = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model = nn.ModuleDict({"encoder": half, "all": nn.Sequential(half, nn.Linear(3, 4))})
    count = sum(p.numel() for p in learned(model.state_dict()).values())
    assert count == sum(p.numel() for p in model.parameters())
