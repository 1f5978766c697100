"""The resident loader against the real DataLoader: the same batches, whatever the transform."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.transforms import v2

from helpers.data import MNIST, Loader, write_idx
from helpers.training import random_state

TO_FLOAT = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
#: Those that the loader does in one go.
PLAIN = {
    "ToTensor": transforms.ToTensor(),
    "Compose of ToTensor": transforms.Compose([transforms.ToTensor()]),
    "v2.Compose of ToTensor": v2.Compose([transforms.ToTensor()]),
    "v2": TO_FLOAT,
    "v2, half precision": v2.Compose([v2.ToImage(), v2.ToDtype(torch.float16, scale=True)]),
    "v2, not scaled": v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32)]),
    "v2, by kind": v2.Compose(
        [v2.ToImage(), v2.ToDtype({torch.Tensor: torch.float64, "others": None})]
    ),
}
DETERMINISTIC = PLAIN | {
    "Normalize": transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.13, 0.31)]),
    "Resize": transforms.Compose([transforms.Resize(14), transforms.ToTensor()]),
    "Lambda": transforms.Compose([transforms.ToTensor(), transforms.Lambda(lambda x: 1 - x)]),
    "a function": lambda image: torch.tensor(np.array(image)).flatten(),
    "PILToTensor": transforms.PILToTensor(),
    "v2, resized": v2.Compose([v2.Resize(20), TO_FLOAT, v2.Normalize([0.5], [0.5])]),
}
RANDOM = {
    "RandomRotation": transforms.Compose([transforms.RandomRotation(20), transforms.ToTensor()]),
    "RandomAffine": transforms.Compose(
        [transforms.RandomAffine(0, translate=(0.1, 0.1)), transforms.ToTensor()]
    ),
    "v2": v2.Compose([v2.RandomRotation(20), TO_FLOAT]),
    "NumPy": lambda image: torch.from_numpy(np.array(image) + np.random.rand(28, 28)),
    "Python": lambda image: torch.tensor(np.array(image) * random.random()),
    # Most images come out the same: only the numbers that it draws give it away.
    "seldom": transforms.Compose([transforms.ToTensor(), transforms.RandomErasing(p=0.001)]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 50 random images."""
    path = tmp_path_factory.mktemp("digits")
    for train in (True, False):
        images = torch.randint(256, (50, 28, 28), dtype=torch.uint8)
        write_idx(path, images, torch.randint(10, (50,)), train=train)
    return path


@pytest.fixture
def numbers() -> TensorDataset:
    return TensorDataset(torch.arange(50.0).view(50, 1), torch.arange(50))


def epochs(make: Any, n_epochs: int = 2, **options: Any) -> list[list[Tensor]]:
    """The batches of some epochs, with every random number from the same start."""
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    loader = make(**options)
    return [[*batch] for _ in range(n_epochs) for batch in loader]


def assert_same(dataset: Dataset[Any], **options: Any) -> None:
    ours = epochs(lambda **o: Loader(dataset, **o), **options)
    theirs = epochs(lambda **o: DataLoader(dataset, **o), **options)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        for mine, expected in zip(a, b, strict=True):
            assert mine.dtype == expected.dtype
            assert torch.equal(mine, expected)


# The same batches.


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 10, 50, 64])
def test_batches(numbers: TensorDataset, drop_last: bool, batch_size: int) -> None:
    options: dict[str, Any] = {"batch_size": batch_size, "drop_last": drop_last}
    assert_same(numbers, **options)
    assert len(Loader(numbers, **options)) == len(DataLoader(numbers, **options))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [7, 10])
def test_shuffled_batches(numbers: TensorDataset, drop_last: bool, batch_size: int) -> None:
    """Another order, and otherwise what DataLoader gives: sizes, pairs, each image at most once."""
    loader = Loader(numbers, batch_size, shuffle=True, drop_last=drop_last)
    batches = list(loader)
    sizes = [len(y) for _, y in DataLoader(numbers, batch_size, drop_last=drop_last)]
    assert [len(y) for _, y in batches] == sizes
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(images[:, 0], labels.float())
    assert len(set(labels.tolist())) == sum(sizes)


def test_order_is_reproducible(numbers: TensorDataset) -> None:
    def orders(generator: Generator | None = None) -> list[list[int]]:
        loader = Loader(numbers, 50, shuffle=True, generator=generator)
        return [next(iter(loader))[1].tolist() for _ in range(2)]

    torch.manual_seed(1)
    first = orders()
    torch.manual_seed(1)
    assert orders() == first
    before = torch.get_rng_state()
    assert orders(Generator().manual_seed(5)) == orders(Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loop_left_early_starts_anew(numbers: TensorDataset) -> None:
    loader = Loader(numbers, 7)
    assert torch.equal(next(iter(loader))[1], next(iter(loader))[1])


def test_new_order_in_each_epoch(numbers: TensorDataset) -> None:
    loader = Loader(numbers, 50, shuffle=True)
    first, second = next(iter(loader))[1], next(iter(loader))[1]
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


# Transforms.


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_transforms(name: str, folder: Path) -> None:
    dataset = MNIST(folder, transform=DETERMINISTIC[name])
    assert Loader(dataset)._resident is not None
    assert_same(dataset, batch_size=8)


@pytest.mark.parametrize("name", PLAIN)
def test_fast_path_is_exact(name: str, folder: Path) -> None:
    dataset = MNIST(folder, transform=PLAIN[name])
    fast = Loader(dataset)._everything()
    slow = Loader(Subset(dataset, range(50)))._everything()
    assert fast is not None
    assert slow is not None
    for a, b in zip(fast, slow, strict=True):
        assert type(a) is Tensor
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", PLAIN)
def test_fast_path_reads_no_single_image(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "__getitem__", None)
    assert len(next(iter(Loader(MNIST(folder, transform=PLAIN[name]), 50)))[0]) == 50


@pytest.mark.parametrize("name", RANDOM)
def test_random_transforms_are_not_frozen(name: str, folder: Path) -> None:
    assert Loader(MNIST(folder, transform=RANDOM[name]))._resident is None


@pytest.mark.parametrize("name", [name for name in RANDOM if name != "seldom"])
def test_each_epoch_is_augmented_afresh(name: str, folder: Path) -> None:
    first, second = epochs(Loader, dataset=MNIST(folder, transform=RANDOM[name]), batch_size=50)
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_randomness_of_its_own_is_noticed(folder: Path) -> None:
    own = np.random.default_rng(0)
    dataset = MNIST(folder, transform=lambda image: torch.tensor(own.random(3)))
    assert Loader(dataset)._resident is None


def test_target_transform(folder: Path) -> None:
    dataset = MNIST(folder, transform=transforms.ToTensor(), target_transform=lambda y: y + 10)
    assert_same(dataset, batch_size=8)


def test_subclass_keeps_its_own_items(folder: Path) -> None:
    class Inverted(MNIST):
        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image, label = super().__getitem__(index)
            return 1 - image, 9 - label

    assert_same(Inverted(folder, transform=transforms.ToTensor()), batch_size=8)


# No side effects, any data set.


@pytest.mark.parametrize("transform", [transforms.ToTensor(), *RANDOM.values()])
def test_building_one_draws_no_random_numbers(transform: Callable[..., Any], folder: Path) -> None:
    dataset = MNIST(folder, transform=transform)
    before = random_state()
    Loader(dataset, 8, shuffle=True)
    assert random_state() == before


def test_random_numbers_survive_an_error(folder: Path) -> None:
    before = random_state()

    def broken(image: Any) -> Tensor:
        torch.rand(1), np.random.rand(), random.random()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        Loader(MNIST(folder, transform=broken))
    assert random_state() == before


def test_any_data_set_with_a_length() -> None:
    class Squares(Dataset[Any]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.tensor([float(index**2)]), index

    assert_same(Squares(), batch_size=2)
    assert_same(Subset(Squares(), [4, 2, 0]), batch_size=2)


def test_attributes(numbers: TensorDataset) -> None:
    loader = Loader(numbers, 7, drop_last=True)
    assert (loader.dataset, loader.batch_size, loader.drop_last) == (numbers, 7, True)


def test_batches_do_not_share_memory(numbers: TensorDataset) -> None:
    """A student who changes a batch in place changes that batch only."""
    loader = Loader(numbers, 50)
    next(iter(loader))[0].zero_()
    assert next(iter(loader))[0].sum() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_batches_on_a_device(numbers: TensorDataset) -> None:
    images, labels = next(iter(Loader(numbers, 7, shuffle=True, device="cuda")))
    assert images.device.type == labels.device.type == "cuda"
    assert images.cpu().flatten().tolist() == labels.tolist()


# Clear errors.


@pytest.mark.parametrize("transform", [None, transforms.Compose([]), transforms.RandomRotation(9)])
def test_no_tensors(transform: Any, folder: Path) -> None:
    with pytest.raises(TypeError, match=r"images of type Image. Its transform should convert"):
        Loader(MNIST(folder, transform=transform))


def test_unequal_shapes(folder: Path) -> None:
    sizes = iter(range(100, 10_000))

    def last_is_larger(image: Any) -> Tensor:
        return torch.zeros(2 if next(sizes) > 130 else 1)

    with pytest.raises(TypeError, match=r"tensors of several shapes: \[\(1,\), \(2,\)\]"):
        Loader(MNIST(folder, transform=last_is_larger))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, None, "8"])
def test_bad_batch_size(batch_size: Any, numbers: TensorDataset) -> None:
    with pytest.raises(ValueError, match=r"batch_size should be a whole number above 0"):
        Loader(numbers, batch_size)


def test_batch_size_of_numpy(numbers: TensorDataset) -> None:
    assert type(Loader(numbers, np.int64(3)).batch_size) is int


def test_empty_data_set(numbers: TensorDataset) -> None:
    with pytest.raises(ValueError, match="The data set is empty"):
        Loader(Subset(numbers, []))
