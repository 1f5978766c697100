"""Makes the CIFAR-10 sample that is part of the kit, from tar files of JPEG images.

``python scripts/embed_cifar10.py FOLDER`` reads ``FOLDER/train.tar`` and ``FOLDER/test.tar``, whose
entries are called ``<split>/<class>/<number>.jpg``, and copies the first images of each class.
"""

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from helpers.data import CIFAR10_CLASSES
from helpers.data.cifar10 import SAMPLE

#: Images per class.
PER_CLASS = {"train": 400, "test": 100}


def main(folder: Path) -> None:
    """Write one zip file per split."""
    SAMPLE.mkdir(parents=True, exist_ok=True)
    for split, per_class in PER_CLASS.items():
        chosen: dict[str, list[tuple[str, bytes]]] = {name: [] for name in CIFAR10_CLASSES}
        with tarfile.open(folder / f"{split}.tar") as archive:
            for entry in archive:
                path = PurePosixPath(entry.name)
                content = archive.extractfile(entry)
                if content is not None and len(chosen[path.parent.name]) < per_class:
                    chosen[path.parent.name].append((path.name, content.read()))
        with zipfile.ZipFile(SAMPLE / f"{split}.zip", "w") as sample:
            for name, images in chosen.items():
                for file, data in images:
                    # A fixed date, so that the same images give the same bytes.
                    sample.writestr(zipfile.ZipInfo(f"{name}/{file}"), data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
