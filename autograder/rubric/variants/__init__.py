"""Further right solutions: rewrites of the model solutions that keep their meaning.

Each rewrite changes the syntax tree of a solution cell, as another author would have written it,
and says whether it applied. All rewrites are tried on all masters, each alone and all together;
every result must keep full marks.

- ``layers`` writes models in other ways, ``loops`` loops over batches, ``writing`` all functions;
- ``code`` has what they share.
"""

import ast
from collections.abc import Mapping, Sequence

from autograder.judging import Master
from autograder.rubric.solutions import Attempt
from autograder.rubric.variants import layers, loops, writing
from autograder.rubric.variants.code import Code, Rewrite, methods, parameters

#: All rewrites, in the order in which they are combined: what looks for the masters' own way to
#: write something comes before what rewrites everything.
REWRITES: tuple[Rewrite, ...] = (
    loops.monitoring_pass,
    loops.monitoring_in_evaluation,
    loops.smaller_learning_rate,
    loops.printed,
    loops.mode_restored,
    loops.gradients_enabled,
    loops.mixed_precision_of_the_model,
    loops.mixed_precision,
    loops.clipped,
    loops.gradients_cleared_later,
    loops.gradients_cleared_by_the_model,
    loops.losses_in_a_list,
    loops.running_tensor,
    loops.whole_batch,
    loops.enumerated,
    loops.progress_bar,
    loops.no_grad_by_hand,
    loops.inference_mode,
    loops.condition_by_keyword,
    loops.loss_by_keyword,
    layers.dropout,
    layers.batch_norm,
    layers.activation_modules,
    layers.one_activation,
    layers.functional_activations,
    layers.module_list,
    layers.nested_sequential,
    layers.named_sequential,
    layers.appended_sequential,
    layers.reversed_registration,
    layers.class_attribute,
    layers.arguments_kept,
    layers.initialised_by_hand,
    layers.shape_asserted,
    layers.old_super,
    writing.noise_of_a_shape,
    writing.noise_in_place,
    writing.noise_from_a_distribution,
    writing.noise_from_numpy,
    writing.other_spelling,
    writing.functional_by_its_short_name,
    writing.float64_inside,
    writing.early_return,
    writing.one_by_one,
    writing.plain_method,
    writing.lambdas,
    writing.keyword_arguments,
    writing.renamed_locals,
    writing.named_result,
    writing.type_hints,
    writing.shapes_printed,
    writing.no_docstrings,
    layers.parts_inherited,
    writing.helper_cell,
)

_ONLY = "the text asks for Linear and LeakyReLU layers only"
_SEQUENTIAL = "the text asks for an nn.Sequential"
#: Where the text of a deliverable, or of one of its tasks, excludes what a rewrite makes, and how.
EXCLUDED: dict[str, dict[str, str]] = {
    "dropout": {"d1_autoencoder": _ONLY},
    "batch_norm": {"d1_autoencoder": _ONLY},
    "functional_activations": {
        "d1_autoencoder": _SEQUENTIAL,
        "d2_denoising": _SEQUENTIAL,
        "d3_vae": _SEQUENTIAL,
        "d4_cvae": _SEQUENTIAL,
        "d5_structured_prediction.model_class": _SEQUENTIAL,
    },
    "module_list": {
        "d1_autoencoder": _SEQUENTIAL,
        "d2_denoising": _SEQUENTIAL,
        "d3_vae": _SEQUENTIAL,
        "d4_cvae": _SEQUENTIAL,
        "d5_structured_prediction.model_class": _SEQUENTIAL,
    },
}


#: Variants that lose points although nothing is wrong with them, by deliverable, with the reason.
KNOWN: dict[str, dict[str, str]] = {}


class Variant(Attempt):
    """A master's solutions, rewritten.

    Attributes:
        cells: the changed solution cells, by name.
        before: texts of cells that the student inserted, by the cell that each stands before.
    """

    cells: dict[str, str]
    before: dict[str, str]

    def changes(self, master: Master) -> dict[str, str]:
        """The texts of the changed cells."""
        return self.cells

    def inserted(self, master: Master) -> dict[str, str]:
        """The texts of the inserted cells."""
        return self.before


def load_variants(master: Master) -> list[Variant]:
    """Each rewrite that applies to a master alone, and all together, without those in KNOWN."""
    alone = [_variant(rewrite.__name__, [rewrite], master) for rewrite in REWRITES]
    known = KNOWN.get(master.deliverable.id, {})
    together = _variant("together", [r for r in REWRITES if r.__name__ not in known], master)
    return [variant for variant in [*alone, together] if variant.cells]


def _variant(name: str, rewrites: Sequence[Rewrite], master: Master) -> Variant:
    """Apply rewrites, one after the other, to all solution cells."""
    signatures = _signatures(master)
    cells, before = {}, {}
    for cell in master.cells:
        if cell.kind != "solution":
            continue
        code = Code(ast.parse(cell.source), signatures)
        applied = [
            rewrite(code) for rewrite in rewrites if not _excluded(rewrite, master, cell.name)
        ]
        if any(applied):
            marker = cell.source.splitlines()[0]
            cells[cell.name] = f"{marker}\n{_unparsed(code.tree.body)}"
        if code.before:
            before[cell.name] = _unparsed(code.before)
    return Variant(name=name, cells=cells, before=before)


def _excluded(rewrite: Rewrite, master: Master, cell: str) -> bool:
    places = EXCLUDED.get(rewrite.__name__, {})
    return not places.keys().isdisjoint({master.deliverable.id, f"{master.deliverable.id}.{cell}"})


def _unparsed(statements: list[ast.stmt]) -> str:
    return ast.unparse(ast.fix_missing_locations(ast.Module(statements, [])))


def _signatures(master: Master) -> Mapping[str, Sequence[str]]:
    """The parameters of the functions, constructors and methods that the solutions define."""
    found: dict[str, list[str]] = {}
    for cell in master.cells:
        if cell.kind != "solution":
            continue
        code = Code(ast.parse(cell.source), {})
        found |= {f.name: parameters(f) for f in code.tree.body if isinstance(f, ast.FunctionDef)}
        for owner in code.classes():
            for method in methods(owner):
                names = parameters(method)
                names = names if method.decorator_list else names[1:]
                known = owner.name if method.name == "__init__" else f"self.{method.name}"
                found[known] = names
    return found
