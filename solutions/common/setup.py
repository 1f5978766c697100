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
    attached = Path(os.environ.get("LATENT_LAB_KAGGLE_INPUT", "/kaggle/input")).resolve()
    places = [*Path.cwd().parents, Path("latent-lab-kit").resolve()]
    places += [found.parent.parent for found in attached.glob("**/helpers/deliverables.py")]
    for place in places:
        if (place / "helpers" / "deliverables.py").is_file():
            sys.path.insert(0, str(place))
            return
    archives = [found.as_uri() for found in attached.glob("**/latent-lab-kit.zip")]
    address = [*archives, os.environ.get("LATENT_LAB_KIT", "{{ kit_url }}")][0]
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            unpack(answer.read())
    except Exception as error:  # no network, no such page, no zip, another zip: many kinds
        sys.exit(
            f"The course kit could not be fetched from {address} ({error}). On Kaggle, switch the "
            "internet on or attach the kit as a data set; else ask your instructor for its address."
        )


def unpack(archive: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as kit:
        kit.getinfo("helpers/deliverables.py")  # which raises where this is another zip
        kit.extractall("latent-lab-kit")
    sys.path.insert(0, str(Path("latent-lab-kit").resolve()))


find_kit()
for package in ("safetensors", "torchsummary"):
    if importlib.util.find_spec(package) is None:
        print(f"{package} is missing: run  %pip install {package}  in a cell, then this one again.")
