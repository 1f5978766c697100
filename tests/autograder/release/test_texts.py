"""The notebooks as students read them: nothing unfilled, broken off, misnumbered or not shown."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.judging import identify, load_master
from autograder.release import released_notebook
from helpers import data, deliverables

IDS = list(deliverables.DELIVERABLES)

#: Blocks of code, fenced or indented.
_BLOCK = re.compile(r"^```.*?^```|(?<=\n\n)(?: {4}.*\n?)+", re.M | re.S)
_CODE = re.compile(r"`[^`\n]+`")
_DISPLAYED = re.compile(r"\$\$.*?\$\$", re.S)
_INLINE = re.compile(r"\$[^$]+?\$", re.S)
#: The start of an item of a list; within a paragraph, a number starts one only if it is 1.
_ITEM = re.compile(r"^ *(?:[-*]|1\.) ")
_NUMBERED = re.compile(r"^ *\d+\. ")
#: A sentence ends so, also if it ends in bold or in brackets.
_ENDS = re.compile(r"[.:;?!,][*_)\"']*$")


@cache
def notebook(name: str) -> NotebookNode:
    return released_notebook(load_master(name))


def texts(name: str) -> Iterator[str]:
    """The texts of the Markdown cells, without markers, placeholders and code."""
    for cell in notebook(name).cells:
        if cell.cell_type == "markdown":
            lines = [
                line
                for line in cell.source.splitlines()
                if not line.startswith("<!--") and line != "YOUR ANSWER HERE"
            ]
            yield _CODE.sub("`x`", _BLOCK.sub("$$code$$", "\n".join(lines))).strip()


def blocks(text: str) -> Iterator[str]:
    """Paragraphs and list items, each in one line; displayed formulas are part of a sentence."""
    for paragraph in re.split(r"\n\s*\n", text):
        block: list[str] = []
        for line in paragraph.splitlines():
            goes_on = block and _NUMBERED.match(block[0]) and _NUMBERED.match(line)
            if block and (_ITEM.match(line) or goes_on):
                yield " ".join(block)
                block = []
            block.append(line.strip())
        yield " ".join(block)


def mathematics(text: str) -> list[str]:
    return _DISPLAYED.findall(text) + _INLINE.findall(_DISPLAYED.sub("", text))


# The faults: each function yields those of one notebook, in words.


def unfilled(name: str) -> Iterator[str]:
    """A fact of the deliverable that was not filled in, in text or in code."""
    for cell in notebook(name).cells:
        yield from re.findall(r".*\{\{.*|.*\}\} *\w* *\}\}.*", cell.source)


def unbalanced(name: str) -> Iterator[str]:
    """A dollar, brace, bracket, backtick or pair of stars without its other half."""
    for text in texts(name):
        rest = _DISPLAYED.sub("", text)
        if "$$" in rest:
            yield f"$$ in {rest!r}"
        for block in blocks(rest):
            if block.replace(r"\$", "").count("$") % 2:
                yield f"$ in {block!r}"
        plain = _INLINE.sub("", rest)
        for block in blocks(plain):
            if block.count("`") % 2 or block.count("**") % 2:
                yield f"` or ** in {block!r}"
            if block.count("(") != block.count(")"):
                yield f"( in {block!r}"
        for formula in mathematics(text):
            bare = re.sub(r"\\[{}]", "", formula)
            if bare.count("{") != bare.count("}"):
                yield f"{{ in {formula!r}"
            if len(re.findall(r"\\left\b", bare)) != len(re.findall(r"\\right\b", bare)):
                yield rf"\left in {formula!r}"
            if re.findall(r"\\begin\{(\w+)", bare) != re.findall(r"\\end\{(\w+)", bare):
                yield rf"\begin in {formula!r}"


def broken_off(name: str) -> Iterator[str]:
    """A paragraph or an item of a list that does not end as a sentence."""
    for text in texts(name):
        found = [block for block in blocks(text) if block]
        for block, following in zip(found, [*found[1:], ""], strict=True):
            # A formula stands for itself; the sentence before it, or before a list, goes on in it.
            goes_on = following.startswith("$$") or (
                _ITEM.match(following) and not _ITEM.match(block)
            )
            if not block.startswith(("#", "|", "$$")) and not goes_on:
                end = block.removesuffix("$$").rstrip() if block.endswith("$$") else block
                if not _ENDS.search(end):
                    yield block


def not_shown(name: str) -> Iterator[str]:
    """A figure that its cell does not end in, or a cell that ends in something that shows none."""
    master = load_master(name)
    for node in notebook(name).cells:
        cell = identify(node, master)
        if cell is None or cell.kind != "figure":
            continue
        *others, last = ast.parse(node.source).body
        lost = [called(each) for each in others if _DRAWS.match(called(each))]
        if lost:
            yield f"{cell.name}: {lost[0]} is not what the cell ends in"
        loop = isinstance(last, ast.For | ast.If | ast.With)
        if loop and not re.search(r"\b(display|print)\(", ast.unparse(last)):
            yield f"{cell.name} ends in {ast.unparse(last)!r}"
        if not loop and (not isinstance(last, ast.Expr) or called(last).startswith("save")):
            yield f"{cell.name} ends in {ast.unparse(last)!r}"


#: The functions that return a figure.
_DRAWS = re.compile("plot_|draw_|explore$|visuali[sz]e_|show_")


def called(statement: ast.stmt) -> str:
    """The name of the function that a statement calls without keeping its result, or ""."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return ast.unparse(statement.value.func).rpartition(".")[2]
    return ""


def elsewhere(name: str) -> Iterator[str]:
    """A "next cell" that is not the next one, or does not use what the text says it does."""
    cells = notebook(name).cells
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if cell.cell_type != "markdown":
            continue
        for sentence in re.split(r"(?<=[.:?!])\s+", cell.source):
            if not re.search(r"\b(next|following) cell\b|\bcell below\b", sentence):
                continue
            if following is None or following.cell_type != "code":
                yield f"no code follows on {sentence!r}"
                continue
            for used in re.findall(r"(?:call|use|run)s your `(\w+)`", " ".join(sentence.split())):
                if used not in following.source:
                    yield f"{used} is not in the cell after {sentence!r}"


def misnumbered(name: str) -> Iterator[str]:
    """Tasks and questions that are not counted 1, 2, 3, a skipped level, or other points."""
    text = "\n\n".join(texts(name))
    for kind, pattern in (("Task", r"^#+ Task (\d+)"), ("Question", r"^\*\*Question (\d+)")):
        numbers = [int(number) for number in re.findall(pattern, text, re.M)]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{kind}s {numbers}"
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)]
    if levels.count(1) != 1 or levels[0] != 1:
        yield f"levels {levels}"
    for before, after in pairwise(levels):
        if after > before + 1:
            yield f"levels {levels}"
    for cell in load_master(name).cells:
        if cell.kind == "written":
            said = re.search(r"\((\d+) points?\)", cell.source)
            if said is None or float(said[1]) != cell.points:
                yield f"{cell.name} has {cell.points:g} points"


def unknown_task(name: str) -> Iterator[str]:
    """A reference to a task, a question or a deliverable that does not exist."""
    text = "\n\n".join(texts(name))
    for kind, pattern in (("Task", r"^#+ Task (\d+)"), ("Question", r"^\*\*Question (\d+)")):
        there = set(re.findall(pattern, text, re.M))
        yield from (f"{kind} {n}" for n in re.findall(rf"\b{kind} (\d+)", text) if n not in there)


def built_again(name: str) -> Iterator[str]:
    """A data set that is read once for each image of a loop or comprehension."""
    loops = (ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.SetComp, ast.For, ast.While)
    for cell in notebook(name).cells:
        if cell.cell_type != "code":
            continue
        for loop in (node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, loops)):
            # What a loop goes through is evaluated once.
            once = loop.iter if isinstance(loop, ast.For) else None
            if isinstance(loop, ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.SetComp):
                once = loop.generators[0].iter
            calls = {node for node in ast.walk(loop) if isinstance(node, ast.Call)}
            calls -= set(ast.walk(once)) if once else set()
            if any(ast.unparse(call.func) in data.__all__ for call in calls):
                yield ast.unparse(loop)


def not_in_eval_mode(name: str) -> Iterator[str]:
    """A figure of what a trained model makes, with Dropout and batch statistics at work."""
    trained: set[str] = set()
    for node in notebook(name).cells:
        if node.cell_type != "code":
            continue
        calls = [call for call in ast.walk(ast.parse(node.source)) if isinstance(call, ast.Call)]
        names = [ast.unparse(call.func) for call in calls]
        trained |= {
            ast.unparse(call.args[1])
            for call, called_name in zip(calls, names, strict=True)
            if called_name == "train_or_restore"
        }
        trained -= {each.removesuffix(".eval") for each in names if each.endswith(".eval")}
        if node.source.startswith(("# Figure", "# Given")):
            used = {each.partition(".")[0] for each in names if not _BOOKKEEPING.search(each)}
            yield from (f"{model} in {node.source.splitlines()[0]}" for model in used & trained)


#: Methods of a model that do not make anything of an input.
_BOOKKEEPING = re.compile(r"\.(to|train|parameters|named_parameters|state_dict|modules)$")


_BUILDS = re.compile(r"\b(build|create)s? (a|the) (new |two )?models?\b")


def half_a_restart(name: str) -> Iterator[str]:
    """Advice to delete the checkpoint that does not say to build the model again as well."""
    for text in texts(name):
        for block in blocks(text):
            if "delete the folder" in block and not _BUILDS.search(block):
                yield block


def wrong_call(name: str) -> Iterator[str]:
    """A cell that runs the checks, or hands in, under another name."""
    master = load_master(name)
    for node in notebook(name).cells:
        cell = identify(node, master)
        calls = (
            {"check": f'check("{name}.{cell.name}")', "handin": f'handin("{name}", '}
            if cell
            else {}
        )
        if cell and cell.kind in calls and calls[cell.kind] not in node.source:
            yield node.source


FAULTS: dict[str, Callable[[str], Iterator[str]]] = {
    fault.__name__: fault
    for fault in (
        unfilled,
        unbalanced,
        broken_off,
        not_shown,
        elsewhere,
        misnumbered,
        unknown_task,
        built_again,
        not_in_eval_mode,
        half_a_restart,
        wrong_call,
    )
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", IDS)
def test_no_fault(name: str, fault: str) -> None:
    found = list(FAULTS[fault](name))
    assert found == []


# The faults are found.


@pytest.mark.parametrize(
    ("fault", "texts"),
    [
        ("unfilled", ["At most {{ max_epochs }} epochs."]),
        ("unfilled", ["At most {{ max_epochs\n}} epochs."]),
        ("unbalanced", ["A mean $\\mu and its variance.", "Then $\\sigma$."]),
        ("unbalanced", ["So\n\n$$x = 1\n\nand more."]),
        ("unbalanced", [r"Here $\frac{1}{2 = x$."]),
        ("unbalanced", [r"Here $\left( x \right$ and $\left[ y$."]),
        ("unbalanced", ["The `model is here."]),
        ("unbalanced", ["The **goal: a loss below 3."]),
        ("unbalanced", ["The goal (a loss below 3."]),
        ("broken_off", ["Some points.\n\n- The first: it is the log\n- The second."]),
        ("broken_off", ["Some points.\n\n1. The first: it is the log\n2. The second."]),
        ("broken_off", ["What would the others\n\nAnd then."]),
        ("not_shown", ["# Figure: losses\nplot_losses(history)\nprint(1)"]),
        ("not_shown", ["# Figure: losses\nfigure = plot_losses(history)"]),
        ("not_shown", ["# Figure: losses\nsave_variations('file.jpg', image)"]),
        ("not_shown", ["# Figure: losses\nfor loss in losses:\n    loss += 1"]),
        (
            "elsewhere",
            ["The next cell trains.", "But before, some words.", "# Given: model\nx = 1"],
        ),
        ("elsewhere", ["The next cell calls your `train_epoch`.", "# Given: model\ntrain_it()"]),
        ("misnumbered", ["# Title", "## Task 1: first\n\n## Task 3: third"]),
        ("misnumbered", ["# Title\n\n### Too deep"]),
        ("misnumbered", ["# Title", "# Another title"]),
        ("misnumbered", ["# Title", "**Question 2 (3 points).** Why?"]),
        ("unknown_task", ["# Title\n\n## Task 1: first\n\nAs in Task 4."]),
        ("built_again", ["# Given: model\nx = [MNIST()[n] for n in range(10)]"]),
        ("built_again", ["# Given: model\nfor n in range(10):\n    x = MNIST()[n]"]),
        (
            "not_in_eval_mode",
            [
                "# Training: vae\ntrain_or_restore('vae', model, f, 1)",
                "# Figure: one\nmodel.decoder(z)",
            ],
        ),
        ("half_a_restart", ["To train anew, delete the folder\n`checkpoints`."]),
        ("wrong_call", ['# Check: loss\ncheck("d2_denoising.loss")']),
    ],
)
def test_faults_are_found(fault: str, texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(FAULTS[fault](with_cells(texts, monkeypatch))) != []


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_right_is_no_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "# Title\n\nA **bold** `word` and $x = (1, 2]$: at most\n10. The cost is \\$5. So\n\n"
        "$$x = \\left( \\frac{1}{2} \\right)$$\n\nis it:\n\n- one,\n  and more;\n- *two*.",
        "## Task 1: first\n\nRun\n\n```\nmake it\n```\n\nor\n\n    make it\n\nAs in Task 1.",
        "The next cell calls your `train_epoch`.",
        "# Given: model\nfirst = [image for image, _ in MNIST()]\ntrain_epoch()",
        "# Training: vae\ntrain_or_restore('vae', model, f, 1)",
        "# Figure: losses\nmodel.eval()\nfor x in y:\n    print(model(x))",
        '# Check: loss\ncheck("d1_autoencoder.loss")',
    ]
    assert list(FAULTS[fault](with_cells(texts, monkeypatch))) == []


def with_cells(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a deliverable whose notebook has these cells; code starts with a marker."""
    new = nbformat.v4
    code = re.compile("# (Given|Training|Figure|Check): ")
    cells = [new.new_code_cell(t) if code.match(t) else new.new_markdown_cell(t) for t in texts]
    book = new.new_notebook(cells=cells)
    monkeypatch.setitem(globals(), "notebook", lambda name: book)
    return "d1_autoencoder"
