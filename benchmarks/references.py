"""Trains every reference in a real kernel on real data, hands it in, and judges it.

``python benchmarks/references.py [d1 d2 ...] [--seeds 0 1 2]`` prints the judge's measurements with
their thresholds and saves them (in ``references.json``, or in ``seeds.json`` for a selection of
deliverables). The exit code is 1 unless every reference has full marks. With ``--figures``, one
figure of each notebook is saved in ``docs/images``, for the map of the course.
"""

import argparse
import base64
import io
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from machine import save
from PIL import Image

from autograder.judging import Master, identify, judge, load_master
from autograder.rubric import execute, hand_in
from helpers.deliverables import DELIVERABLES, get

IMAGES = Path(__file__).parent.parent / "docs" / "images"
#: The figure that represents each deliverable.
FIGURES = {
    "d1_autoencoder": "latent_images",
    "d2_denoising": "denoised",
    "d3_vae": "samples",
    "d4_cvae": "ten_of_each",
    "d5_structured_prediction": "completions",
    "d6_vqvae": "reconstructions",
    "d7_elbo": "rise",
    "d8_conv_vae": "plane",
    "d9_image_variations": "six_scales",
    "d10_sd_vae": "reconstructions",
    "d11_text_to_image": "all_digits",
}
#: The deliverables that train for minutes. They start first, so that no core is idle at the end.
LONGEST = {"d2_denoising", "d6_vqvae", "d8_conv_vae", "d9_image_variations", "d10_sd_vae"}


def main() -> int:
    """Train, judge, print and save the results; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", default=list(DELIVERABLES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--figures", action="store_true", help="draw docs/images again")
    arguments = parser.parse_args()
    runs = [(get(name).id, seed) for name in arguments.ids for seed in arguments.seeds]
    longest_first = sorted(runs, key=lambda run: run[0] not in LONGEST)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.jobs) as pool:
        rest = (Path(temporary), arguments.figures)
        futures = {run: pool.submit(train, *run, *rest) for run in longest_first}
        trained = []
        for run in runs:
            result = futures[run].result()
            trained.append(result)
            print(f"\n{result['deliverable']}, seed {result['seed']}: {result['score']}")
            print(f"  trained in {result['training_seconds']} s, judged in", end=" ")
            print(f"{result['judging_seconds']} s")
            for message in [*result["found"], *(f"LOST {name}" for name in result["lost"])]:
                print(f"  {message}", flush=True)
    name = "references" if arguments.ids == list(DELIVERABLES) else "seeds"
    save(name, {"references": trained})
    return int(any(not result["full_marks"] for result in trained))


def train(deliverable_id: str, seed: int, folder: Path, figures: bool) -> dict[str, Any]:
    """Train one reference from a seed, hand it in and judge it; draw its figure on request."""
    master = load_master(deliverable_id)
    work = folder / f"{deliverable_id}-{seed}"
    changes = {} if seed == 0 else {"set_seed(0)": f"set_seed({seed})"}
    print(f"Training {deliverable_id}, seed {seed}...", flush=True)
    begin = time.monotonic()
    hand_in(master, f"seed{seed}", {}, work, folder, replace=changes)
    wall = time.monotonic() - begin
    if figures and seed == 0:
        draw(master, work)
    histories = [json.loads(path.read_text()) for path in (work / "checkpoints").glob("*.json")]
    judgement = judge(folder / f"{deliverable_id}-seed{seed}.zip", deliverable_id, f"seed{seed}")
    return {
        "deliverable": deliverable_id,
        "seed": seed,
        "score": f"{judgement.score} of {judgement.max_score}",
        "full_marks": judgement.score == judgement.max_score,
        "training_seconds": round(sum(sum(history["seconds"]) for history in histories)),
        "notebook_seconds": round(wall),
        "judging_seconds": round(judgement.seconds, 1),
        "found": [
            check.message for check in judgement.checks if check.cell == "result" and check.message
        ],
        "lost": [check.id for check in judgement.checks if check.status != "passed"],
    }


def draw(master: Master, work: Path) -> None:
    """Run a trained notebook up to the figure that represents it, and save that figure."""
    name = master.deliverable.id
    notebook = nbformat.read(work / f"{name}.ipynb", as_version=4)
    cells = [identify(node, master) for node in notebook.cells]
    last = next(n for n, cell in enumerate(cells) if cell and cell.name == FIGURES[name])
    notebook.cells = notebook.cells[: last + 1]
    path = work / "figure.ipynb"
    nbformat.write(notebook, path)
    execute(path, ("given", "solution", "train", "figure"), master)
    outputs = nbformat.read(path, as_version=4).cells[-1].outputs
    data = next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {}))
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    image.thumbnail((640, 640))
    image.quantize(256).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
