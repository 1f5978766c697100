"""What the checks of deliverable 9 lean on."""

from pathlib import Path

from PIL import Image

from helpers.checks.common.tiny_faces import new_path, take_file


def test_only_a_folder_of_our_own_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "variations.jpg"
    Image.new("RGB", (8, 8)).save(file)
    content, pixels = take_file(str(file))
    assert (file.is_file(), content.numel(), pixels.numel()) == (True, 0, 0)


def test_a_picture_is_taken_with_its_folder() -> None:
    path = Path(new_path())
    Image.new("RGB", (8, 6), (255, 0, 0)).save(path)
    (path.parent / "another").write_text("")
    content, pixels = take_file(str(path))
    assert content[:3].tolist() == [255, 216, 255]
    assert tuple(pixels.shape) == (6, 8, 3)
    assert not path.parent.exists()
