"""Drawn faces, and photographs in CelebA's own format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms

from helpers.data import (
    ENVIRONMENT,
    FACE_HEIGHT,
    FACE_WIDTH,
    DataError,
    Faces,
    Loader,
    draw_face,
    face_tensors,
)
from helpers.deliverables import FACE_SIZES


@pytest.fixture(autouse=True)
def no_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def test_a_face_is_the_same_each_time() -> None:
    one, again, other, elsewhere = (
        np.asarray(draw_face(*key)) for key in ((0, 7), (0, 7), (0, 8), (1, 7))
    )
    assert one.shape == (FACE_HEIGHT, FACE_WIDTH, 3)
    assert (one == again).all()
    assert (one != other).mean() > 0.5
    assert (one != elsewhere).mean() > 0.5


def test_faces_differ_in_many_ways() -> None:
    """No few numbers describe them: many principal components are needed for the variance."""
    faces = face_tensors(120, 40, seed=5).flatten(1)
    assert 0.02 < float(faces.var(dim=0).mean()) < 0.08
    variances = torch.linalg.svdvals(faces - faces.mean(dim=0)).square()
    shares = variances / variances.sum()
    assert float(shares[:10].sum()) < 0.9
    assert float(shares[0]) < 0.5


def test_edges_are_smooth() -> None:
    """Between two flat areas there are pixels of colours in between."""
    pixels = np.asarray(draw_face(0, 1), dtype=int)
    steps = np.abs(np.diff(pixels, axis=1)).max(axis=2)
    strong = steps > 60
    # A hard edge is one strong step between two weak ones; a smooth one spreads over two or more.
    alone = strong[:, 1:-1] & (steps[:, :-2] < 6) & (steps[:, 2:] < 6)
    assert alone.sum() < 0.5 * strong.sum()


def test_splits_and_sizes() -> None:
    train, valid = Faces("train"), Faces("valid")
    assert (len(train), len(valid)) == (FACE_SIZES["small"].n_train, FACE_SIZES["small"].n_valid)
    assert train[3][1] == 3
    assert train[3][0].tobytes() != valid[3][0].tobytes()
    assert "1,500 drawn faces (training)" in repr(train)
    assert train[-1][1] == len(train) - 1
    with pytest.raises(IndexError):
        train[len(train)]
    for wrong in ({"split": "test"}, {"size": "large"}):
        with pytest.raises(ValueError, match="or"):
            Faces(**wrong)


def test_transform_and_loader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the grader's sandbox there are few faces, and at both sizes."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    prepare = transforms.Compose(
        [transforms.Resize(50), transforms.CenterCrop(50), transforms.ToTensor()]
    )
    for size in FACE_SIZES:
        images, labels = next(iter(Loader(Faces("valid", size, transform=prepare), 5)))
        assert torch.equal(images, face_tensors(5, 50, seed=1))
        assert labels.tolist() == [0, 1, 2, 3, 4]


def celeba(folder: Path, n_images: int) -> None:
    """A small data set in CelebA's format: photographs and five text files."""
    base = folder / "data" / "celeba"
    pictures = base / "img_align_celeba"
    pictures.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, n_images + 1)]
    for number, name in enumerate(names):
        Image.new("RGB", (178, 218), (20 * number, 100, 50)).save(pictures / name, quality=95)

    def table(file: str, head: list[str], values: str) -> None:
        rows = [f"{name} {values}" for name in names]
        (base / file).write_text("\n".join([*head, *rows]) + "\n")

    parts = "\n".join(f"{name} {number % 3}" for number, name in enumerate(names))
    (base / "list_eval_partition.txt").write_text(parts + "\n")
    table("identity_CelebA.txt", [], "7")
    table(
        "list_attr_celeba.txt",
        [str(n_images), " ".join(f"A{k}" for k in range(40))],
        " ".join(["1"] * 40),
    )
    table("list_bbox_celeba.txt", [str(n_images), "image_id x_1 y_1 width height"], "1 2 3 4")
    table("list_landmarks_align_celeba.txt", [str(n_images), "a b c d"], "1 2 3 4")


def test_photographs_in_celebas_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real loading code, on a small folder in the real format."""
    celeba(tmp_path, n_images=9)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.CelebA, "file_list", [])  # whose checksums are those of the whole
    prepare = transforms.Compose(
        [transforms.Resize(150), transforms.CenterCrop(150), transforms.ToTensor()]
    )
    train = Faces("train", "full", transform=prepare)  # numbers 1, 4 and 7
    assert len(train) == len(Faces("valid", "full")) == 3
    assert "3 photographs of CelebA (training)" in repr(train)
    images, labels = next(iter(torch.utils.data.DataLoader(train, batch_size=3)))
    assert images.shape == (3, 3, 150, 150)
    assert labels.tolist() == [0, 1, 2]
    reds = 255 * images[:, 0].mean(dim=(1, 2))
    assert torch.allclose(reds, torch.tensor([0.0, 60.0, 120.0]), atol=3)


def test_no_photographs_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.CelebA, "download", offline)
    with pytest.raises(DataError, match="small"):
        Faces("train", "full")
