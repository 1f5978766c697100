"""What the data sets share: where their files are, how items are made, how a download fails."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

#: The files that come with this kit.
FILES = Path(__file__).parent / "files"
#: The environment variable with a folder that is used before any other: the grader sets it to the
#: folder of its own data.
ENVIRONMENT = "LATENT_LAB_DATA"


class DataError(Exception):
    """A data set is missing or damaged; the text says in one sentence what to do."""


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Images with labels; ``transform`` is applied to each PIL image when it is read."""

    transform: Callable[[Any], Any] | None

    def __len__(self) -> int:
        """The number of images."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The transformed image and the label at ``index``."""
        image, label = self._read(index)
        return (image if self.transform is None else self.transform(image)), label

    def _read(self, index: int) -> tuple[Any, Any]:
        """The PIL image and the label at ``index``."""
        raise NotImplementedError


@contextmanager
def downloading(failure: str) -> Iterator[None]:
    """Turn any exception in the block into a :class:`DataError` with the text ``failure``.

    A download fails in many ways: urllib, sockets, zip files, checksums, a full disk.
    """
    try:
        yield
    except Exception as error:
        raise DataError(failure) from error
