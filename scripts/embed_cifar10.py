"""Make the CIFAR-10 sample that ships with the kit, from tar files of JPEG images by class.

``python scripts/embed_cifar10.py FOLDER`` reads ``FOLDER/train.tar`` and ``FOLDER/test.tar``,
whose entries are called ``<split>/<class>/<number>.jpg``, and takes the first images of each class
as they are.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from helpers.data import CLASSES, EMBEDDED

#: Images of each class.
PER_CLASS = {"train": 400, "test": 100}


def main(folder: Path) -> None:
    """Write one zip file a split."""
    EMBEDDED.mkdir(parents=True, exist_ok=True)
    for split, per_class in PER_CLASS.items():
        chosen: dict[str, list[tuple[str, bytes]]] = {name: [] for name in CLASSES}
        with tarfile.open(folder / f"{split}.tar") as archive:
            for entry in archive:
                path = PurePosixPath(entry.name)
                content = archive.extractfile(entry)
                if content is not None and len(chosen[path.parent.name]) < per_class:
                    chosen[path.parent.name].append((path.name, content.read()))
        with zipfile.ZipFile(EMBEDDED / f"{split}.zip", "w") as sample:
            for name, images in chosen.items():
                for file, content_bytes in images:
                    # A fixed date, so that the same images give the same bytes.
                    sample.writestr(zipfile.ZipInfo(f"{name}/{file}"), content_bytes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
