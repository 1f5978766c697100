# On your own computer this does nothing; on Colab and Kaggle it fetches the course kit.
import importlib.util
import io
import os
import sys
import urllib.request
import zipfile
from pathlib import Path


def find_kit() -> None:
    if importlib.util.find_spec("helpers"):
        return
    attached = Path(os.environ.get("LATENT_LAB_KAGGLE_INPUT", "/kaggle/input"))
    places = [*Path.cwd().parents, Path("latent-lab-kit").resolve()]
    places += [found.parent.parent for found in attached.glob("**/helpers/deliverables.py")]
    for place in places:
        if (place / "helpers" / "deliverables.py").is_file():
            return sys.path.insert(0, str(place))
    for archive in attached.glob("**/latent-lab-kit.zip"):
        return unpack(archive.read_bytes())
    address = os.environ.get("LATENT_LAB_KIT", "{{ kit_url }}")
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return unpack(answer.read())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        sys.exit(
            f"The course kit could not be fetched from {address} ({error}). On Kaggle, switch the "
            "internet on or attach the kit as a data set; else ask your instructor for its address."
        )


def unpack(archive: bytes) -> None:
    zipfile.ZipFile(io.BytesIO(archive)).extractall("latent-lab-kit")
    sys.path.insert(0, str(Path("latent-lab-kit").resolve()))


find_kit()
for package in ("safetensors", "torchsummary"):
    if importlib.util.find_spec(package) is None:
        print(f"{package} is missing: run  %pip install {package}  in a cell, then this one again.")
