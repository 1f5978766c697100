"""Photographs of dogs: those in the kit, those of the Pet data set, and without either."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import transforms

from helpers.data import ENVIRONMENT, DataError, Dogs, Loader, dog_tensors, split_dogs, write_sample


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def test_the_kits_dogs() -> None:
    dogs = Dogs()
    assert len(dogs) == 500
    photograph, label = dogs[0]
    assert photograph.size == (32, 32)
    assert label == 0


def test_split_is_the_same_each_time() -> None:
    (training, test), (again, _) = split_dogs(Dogs()), split_dogs(Dogs())
    assert (len(training), len(test)) == (400, 100)
    assert training.indices == again.indices
    assert not set(training.indices) & set(test.indices)


def test_prepared_dogs() -> None:
    training, test = dog_tensors()
    assert training.shape == (400, 3, 56, 56)
    assert test.shape == (100, 3, 56, 56)
    assert -1 <= float(training.min()) < -0.9 < 0.9 < float(training.max()) <= 1
    # The checks' messages say what the mean image would reach.
    assert 0.21 < float((training - training.mean(dim=0)).square().mean()) < 0.24


def test_the_grader_names_its_own_dogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for train, labels in ((True, [5, 1, 5]), (False, [5, 0])):
        images = torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8)
        write_sample(tmp_path, images, torch.tensor(labels), train=train)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    assert [len(Dogs(size)) for size in ("small", "full")] == [3, 3]


def test_unknown_size() -> None:
    with pytest.raises(ValueError, match="small"):
        Dogs("huge")


def test_pets_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real loading code on a small folder in the real format, with a cat in it."""
    folder = tmp_path / "data" / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    # Name, number of the breed, cat or dog, number of the breed among those.
    (folder / "annotations" / "trainval.txt").write_text("Bengal_3 1 1 1\nbeagle_7 2 2 1\n")
    (folder / "annotations" / "test.txt").write_text("beagle_9 2 2 1\npug_12 3 2 2\n")
    for number, (name, size) in enumerate(
        {
            "Bengal_3": (50, 40),
            "beagle_7": (60, 90),
            "beagle_9": (80, 70),
            "pug_12": (90, 30),
        }.items()
    ):
        Image.new("RGB", size, (60 * number, 0, 0)).save(folder / "images" / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    dogs = Dogs("full")
    assert [dogs[number][0].size for number in range(len(dogs))] == [(60, 90), (80, 70), (90, 30)]
    prepare = transforms.Compose([transforms.Resize((56, 56)), transforms.ToTensor()])
    images, labels = next(iter(Loader(Dogs("full", transform=prepare), 3)))
    assert images.shape == (3, 3, 56, 56)
    assert images[:, 0].mean(dim=(1, 2)).mul(255).round().tolist() == pytest.approx(
        [60, 120, 180], abs=3
    )
    assert labels.tolist() == [0, 0, 0]
    (folder / "images" / "pug_12.jpg").write_bytes(b"cut off")
    with pytest.raises(DataError, match=r"pug_12\.jpg"):
        dogs[2]


def test_pets_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    monkeypatch.chdir(tmp_path)
    nowhere = [("http://127.0.0.1:9/none.tar.gz", "")]
    monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", nowhere)
    with pytest.raises(DataError, match="small"):
        Dogs("full")
