"""``genpic``: makes variations of a picture with the functions of a student's own notebook.

The notebook of deliverable 9 defines a model and the functions around it, and its training has left
a checkpoint. This command takes the definitions from the notebook (its imports, functions and
classes; nothing else in it is run), loads the checkpoint, and writes a JPEG file with the picture
and its variations.
"""

import argparse
import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch import nn

from helpers.deliverables import FACE_SIZES
from helpers.training import Checkpoint, CheckpointError, set_seed

NOTEBOOK = "d9_image_variations.ipynb"
CHECKPOINT = "checkpoints/vae.safetensors"
#: The names that the notebook must define.
_WANTED = ("VAE", "preprocessing", "generate_variations", "save_variations")
#: In pixels; larger pictures are refused before they are decoded.
MAX_PIXELS = 50_000_000
MAX_VARIATIONS = 200


class GenpicError(Exception):
    """No picture can be made; the text says why in one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, or 2 if the input is wrong."""
    parser = argparse.ArgumentParser(
        prog="genpic", description="Variations of a picture of a face, as a JPEG file."
    )
    parser.add_argument("picture", type=Path, help="a picture file")
    parser.add_argument("-o", "--output", type=Path, default=Path("variations.jpg"))
    parser.add_argument("-n", type=int, default=10, help="how many variations")
    parser.add_argument("--scale", type=float, default=0.01, help="of the variance; default 0.01")
    parser.add_argument("--seed", type=int, default=None, help="the same variations each time")
    parser.add_argument("--notebook", type=Path, default=Path(NOTEBOOK))
    parser.add_argument("--checkpoint", type=Path, default=Path(CHECKPOINT))
    options = parser.parse_args(arguments)
    try:
        make_picture(options)
    except GenpicError as error:
        print(f"genpic: {error}", file=sys.stderr)
        return 2
    print(f"Saved {options.output}: the picture and {options.n} variations.")
    return 0


def make_picture(options: argparse.Namespace) -> None:
    """Read the picture, vary it, and write the result.

    Args:
        options: as parsed by :func:`main`.

    Raises:
        GenpicError: if the options, the files or the notebook's code do not allow it.
    """
    if not 1 <= options.n <= MAX_VARIATIONS:
        raise GenpicError(f"There can be 1 to {MAX_VARIATIONS} variations, not {options.n}.")
    if not 0 <= options.scale <= 1e6:
        raise GenpicError(f"The scale is a number of at least 0, not {options.scale:g}.")
    if options.output.suffix.lower() not in (".jpg", ".jpeg"):
        raise GenpicError(f"The output is a JPEG file: end {options.output.name} in .jpg.")
    if not options.output.absolute().parent.is_dir():
        raise GenpicError(f"There is no folder {options.output.absolute().parent}.")
    picture = read_picture(options.picture)
    names = read_definitions(options.notebook)
    if options.seed is not None:
        set_seed(options.seed % 2**32)
    try:
        model, image_size = load_model(names["VAE"], options.checkpoint)
        image = names["preprocessing"](image_size)(picture)
        variations = names["generate_variations"](
            model, image, n=options.n, variance_scale=options.scale
        )
        names["save_variations"](str(options.output), image, variations)
    except GenpicError:
        raise
    except NotImplementedError as error:
        raise GenpicError(f"{options.notebook} still has a TODO that this needs.") from error
    except Exception as error:  # whatever the notebook's code raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise GenpicError(f"The code in {options.notebook} failed ({reason:.300}).") from error


def read_picture(path: Path) -> Image.Image:
    """A picture file as RGB, rotated according to its EXIF data.

    Raises:
        GenpicError: if it cannot be read.
    """
    from PIL import ImageOps

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise GenpicError(f"{path} is too large: more than {MAX_PIXELS:,} pixels.")
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise GenpicError(f"There is no picture {path}.") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise GenpicError(f"{path} cannot be read as a picture.") from error


def read_definitions(path: Path) -> dict[str, Any]:
    """The names that a notebook's imports, functions and classes define.

    Raises:
        GenpicError: if it is not a notebook, or something is missing.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except FileNotFoundError:
        raise GenpicError(
            f"There is no notebook {path}: run genpic in its folder, or name it with --notebook."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GenpicError(f"{path} cannot be read as a notebook.") from error
    names: dict[str, Any] = {"__name__": "genpic"}
    for source in sources:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue  # a cell with a magic, or one that does not run in the notebook either
        kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
        kept = [node for node in tree.body if isinstance(node, kinds)]
        for node in kept:
            try:
                exec(compile(ast.Module([node], []), str(path), "exec"), names)
            except Exception as error:  # a missing package, a decorator that fails
                names.setdefault("__problem__", " ".join(f"{error}".split()))
    missing = [name for name in _WANTED if name not in names]
    if missing:
        problem = f" ({names['__problem__']:.200})" if "__problem__" in names else ""
        raise GenpicError(f"{path} does not define {' and '.join(missing)}{problem}.")
    return names


def load_model(new_vae: Any, path: Path) -> tuple[nn.Module, int]:
    """The model of a checkpoint, built in the size that the checkpoint fits, and its image size.

    Raises:
        GenpicError: if there is no checkpoint, or it does not fit any size.
    """
    if not path.is_file():
        raise GenpicError(f"There is no checkpoint {path}: train the model first.")
    problem: CheckpointError | None = None
    for settings in FACE_SIZES.values():
        model = new_vae(settings.image_size, settings.latent_dim, settings.hidden_dims)
        try:
            Checkpoint(path.parent, path.stem).load(model)
        except CheckpointError as error:
            problem = problem or error
        else:
            return model.eval(), settings.image_size
    raise GenpicError(str(problem))


if __name__ == "__main__":
    sys.exit(main())
