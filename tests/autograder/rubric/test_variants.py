"""The model solutions in other words keep full marks."""

import ast
from typing import Any

import pytest

from autograder.judging import load_master
from autograder.rubric import try_solution
from autograder.rubric.solutions import verdict
from autograder.rubric.variants import EXCLUDED, KNOWN, REWRITES, Variant, load_variants
from autograder.rubric.variants.code import Code
from helpers.deliverables import DELIVERABLES

VARIANTS = {name: load_variants(load_master(name)) for name in DELIVERABLES}
#: One in so many is tried in the default run, and all in the long run.
SHARE = 6


def each_variant() -> list[Any]:
    parameters = []
    for name, variants in VARIANTS.items():
        for number, variant in enumerate(variants):
            later = number % SHARE and variant is not variants[-1]
            marks = [pytest.mark.long] if later else []
            if reason := KNOWN.get(name, {}).get(variant.name):
                marks.append(pytest.mark.xfail(reason=reason, strict=False))
            identity = f"{name.partition('_')[0]}-{variant.name}"
            parameters.append(pytest.param(name, variant, id=identity, marks=marks))
    return parameters


@pytest.mark.parametrize(("deliverable_id", "variant"), each_variant())
def test_variant_keeps_full_marks(deliverable_id: str, variant: Variant) -> None:
    master = load_master(deliverable_id)
    results = try_solution(variant, master)
    assert verdict(variant, results, master.points) == [], [
        (result.name, result.status, result.message) for result in results if result.message
    ]


@pytest.mark.parametrize("deliverable_id", VARIANTS)
def test_every_variant_differs_from_the_master(deliverable_id: str) -> None:
    master = load_master(deliverable_id)
    own = {c.name: ast.dump(ast.parse(c.source)) for c in master.cells if c.kind == "solution"}
    texts = set()
    for variant in VARIANTS[deliverable_id]:
        for name, text in variant.cells.items():
            assert ast.dump(ast.parse(text)) != own[name], variant.name
        texts.add((*variant.cells.values(), *variant.before.values()))
    assert len(texts) == len(VARIANTS[deliverable_id]), "two rewrites do the same"


def test_every_rewrite_applies_somewhere() -> None:
    applied = {variant.name for variants in VARIANTS.values() for variant in variants}
    assert {rewrite.__name__ for rewrite in REWRITES} <= applied


@pytest.mark.parametrize("rewrite", REWRITES, ids=lambda rewrite: rewrite.__name__)
def test_a_rewrite_that_does_not_apply_changes_nothing(rewrite: Any) -> None:
    code = Code(ast.parse("n_epochs = 10\n"), {})
    if not rewrite(code):
        assert ast.unparse(code.tree) == "n_epochs = 10"
        assert code.before == []


def test_the_tables_name_what_exists() -> None:
    names = {rewrite.__name__ for rewrite in REWRITES}
    assert EXCLUDED.keys() <= names
    for places in EXCLUDED.values():
        for place in places:
            deliverable_id, _, cell = place.partition(".")
            assert deliverable_id in DELIVERABLES
            assert not cell or load_master(deliverable_id).cell(cell).kind == "solution"
    for deliverable_id, known in KNOWN.items():
        assert known.keys() <= {variant.name for variant in VARIANTS[deliverable_id]}
