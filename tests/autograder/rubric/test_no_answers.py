"""No function that solves a task stands in what students get."""

import ast

import pytest

from autograder.judging import load_master
from autograder.release import student_kit
from autograder.rubric.likeness import FEWEST, LIMIT, Piece, answers, kit_pieces, pieces
from autograder.rubric.variants import load_variants
from helpers.deliverables import DELIVERABLES

_LINEAR = "three linear layers, which d5's text gives in words; in d7 the networks are given"
#: What is given on purpose, with the reason.
GIVEN = {
    ("d5 BaselineNN.__init__", "notebooks/d7_elbo/d7_elbo.ipynb: Decoder.__init__"): _LINEAR,
    ("d5 BaselineNN.__init__", "helpers/checks/common/tiny_elbo.py: TinyDecoder.__init__"): _LINEAR,
}
#: How an answer may be disguised without becoming another: names, layout, other spelling.
DISGUISES = ("renamed_locals", "keyword_arguments", "named_result", "type_hints", "no_docstrings")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> list[Piece]:
    return list(kit_pieces(student_kit(tmp_path_factory.mktemp("kit"))))


@pytest.mark.parametrize("deliverable_id", DELIVERABLES)
def test_no_answer_is_in_the_kit(kit: list[Piece], deliverable_id: str) -> None:
    found = {
        (answer.name, piece.name): round(share, 2)
        for answer in answers(load_master(deliverable_id))
        for piece in kit
        if (share := answer.share_in(piece)) > LIMIT
    }
    assert {pair: share for pair, share in found.items() if pair not in GIVEN} == {}


def test_the_kit_is_looked_at_as_a_whole(kit: list[Piece]) -> None:
    names = [piece.name for piece in kit]
    for room in ("helpers/checks/", "helpers/models/", "helpers/genpic.py", "notebooks/d7_elbo/"):
        assert any(name.startswith(room) for name in names), room


@pytest.mark.parametrize("deliverable_id", DELIVERABLES)
def test_a_disguised_answer_is_found(deliverable_id: str) -> None:
    master = load_master(deliverable_id)
    originals = list(answers(master))
    for variant in load_variants(master):
        if variant.name not in DISGUISES:
            continue
        texts = {cell.name: cell.source for cell in master.cells if cell.kind == "solution"}
        code = "\n".join((texts | variant.cells).values())
        copies = list(pieces(ast.parse(code), "copy"))
        for original in originals:
            share = max(original.share_in(copy) for copy in copies)
            assert share > LIMIT, (variant.name, original.name)


def test_a_formula_is_found_whatever_its_variables_are_called() -> None:
    one = (
        "def kl(mu, logvar):\n    return -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp(), dim=1)"
    )
    other = (
        "def f(a: Tensor, b: Tensor) -> Tensor:\n    '''A divergence.'''\n"
        "    inner = 3 + a - b.pow(4) - torch.exp(a)\n    return -0.2 * inner.sum(dim=2)"
    )
    first, second = (next(pieces(ast.parse(text), "")) for text in (one, other))
    assert first.runs.total() >= FEWEST
    assert first.share_in(second) > LIMIT


def test_only_what_students_write_is_compared() -> None:
    """train_epoch's loop is given in the notebook, and no answer."""
    names = {piece.name: piece for piece in answers(load_master("d1_autoencoder"))}
    assert "For" not in names["d1 train_epoch"].operations
    assert "backward" in names["d1 train_epoch"].operations
