"""The sample of CIFAR-10 that comes with the kit, and what happens when it is not there."""

from pathlib import Path

import pytest
import torch
from torchvision import transforms

from helpers.data import (
    CIFAR10,
    CIFAR10_CLASSES,
    ENVIRONMENT,
    DataError,
    Loader,
    cifar10_tensors,
    read_sample,
    write_sample,
)
from helpers.data.cifar10 import SAMPLE


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.mark.parametrize(("train", "per_class"), [(True, 400), (False, 100)])
def test_sample_holds_as_many_of_each_class(train: bool, per_class: int) -> None:
    dataset = CIFAR10(train=train)
    assert dataset.data.shape == (10 * per_class, 3, 32, 32)
    assert torch.bincount(dataset.targets).tolist() == [per_class] * len(CIFAR10_CLASSES)


def test_sample_is_like_the_whole() -> None:
    """The mean and spread of CIFAR-10's channels are known: 0.491, 0.482, 0.447; 0.247 to 0.262."""
    images = cifar10_tensors(train=True) + 0.5
    mean = images.mean(dim=(0, 2, 3))
    assert torch.allclose(mean, torch.tensor([0.491, 0.482, 0.447]), atol=0.01)
    assert 0.055 < float(images.var()) < 0.068


def test_training_and_test_images_differ() -> None:
    train, _ = read_sample(SAMPLE, train=True)
    test, _ = read_sample(SAMPLE, train=False)
    known = {image.numpy().tobytes() for image in train}
    assert not any(image.numpy().tobytes() in known for image in test)


def test_transform_and_loader() -> None:
    shifted = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [1.0] * 3)]
    )
    dataset = CIFAR10(train=False, transform=shifted)
    images, labels = next(iter(Loader(dataset, 100)))
    assert torch.allclose(images, cifar10_tensors(train=False)[:100], atol=1e-6)
    assert labels.tolist() == dataset.targets[:100].tolist()


def test_samples_are_read_as_written(tmp_path: Path) -> None:
    flat = torch.tensor([10, 120, 250], dtype=torch.uint8)[:, None, None, None]
    write_sample(
        tmp_path, flat.expand(3, 3, 32, 32).contiguous(), torch.tensor([3, 1, 4]), train=True
    )
    images, labels = read_sample(tmp_path, train=True)
    assert labels.tolist() == [3, 1, 4]
    assert torch.allclose(images.float().mean(dim=(1, 2, 3)), flat.view(3).float(), atol=2)


def test_the_grader_names_its_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path, torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(2), train=True)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    for size in ("small", "full"):
        assert len(CIFAR10(train=True, size=size)) == 2


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"no zip at all"])
def test_bad_sample_is_one_clear_sentence(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "train.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.zip") as caught:
        read_sample(tmp_path, train=True)
    assert str(caught.value).count(".") <= 3


def test_unknown_size() -> None:
    with pytest.raises(ValueError, match="small"):
        CIFAR10(size="large")


def test_full_set_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real loading code, on a small file in the real format; and without it, offline."""
    import hashlib
    import pickle

    from torchvision import datasets

    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def batch(name: str, **content: object) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    pixels = torch.arange(2 * 3072).remainder(251).to(torch.uint8).view(2, 3072).numpy()
    train = [batch("data_batch_1", data=pixels, labels=[6, 9])]
    test = [batch("test_batch", data=pixels[:1], labels=[3])]
    meta = batch("batches.meta", label_names=list(CIFAR10_CLASSES))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", test)
    monkeypatch.setattr(
        datasets.CIFAR10,
        "meta",
        {"filename": meta[0], "key": "label_names", "md5": meta[1]},
    )
    monkeypatch.chdir(tmp_path)
    dataset = CIFAR10(train=True, size="full")
    assert dataset.targets.tolist() == [6, 9]
    assert torch.equal(dataset.data.flatten(1), torch.from_numpy(pixels))
    (folder / "data_batch_1").unlink()
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/none")
    with pytest.raises(DataError, match="small"):
        CIFAR10(train=True, size="full")
