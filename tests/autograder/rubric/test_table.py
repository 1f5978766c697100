"""The counts that ``python -m autograder.rubric`` prints and saves."""

from pathlib import Path

from autograder.rubric.__main__ import Counts, write_table

ONE = Counts(killed=3, wrong=4, told=2, kept=5, right=5, kept_variants=7, variants=8)
OTHER = Counts(killed=10, wrong=10, told=9, kept=2, right=2, kept_variants=1, variants=1)


def test_counts_add_up() -> None:
    assert (ONE + OTHER).cells() == ["13/14", "11/14", "7/7", "8/9"]
    assert sum([ONE, OTHER], Counts()) == ONE + OTHER


def test_the_table_is_a_page(tmp_path: Path) -> None:
    write_table({"d1_autoencoder": ONE, "together": ONE}, tmp_path / "rubric.md")
    lines = (tmp_path / "rubric.md").read_text().splitlines()
    assert lines[0] == "# The rubric"
    assert lines[-2:] == [
        "| d1_autoencoder | 3/4 | 2/4 | 5/5 | 7/8 |",
        "| together | 3/4 | 2/4 | 5/5 | 7/8 |",
    ]
    widths = {line.count("|") for line in lines if line.startswith("|")}
    assert widths == {6}
