"""Strangers' notebooks through the real judge: none gains a point, stops it, or hurts another.

Each attack is a piece of code in one cell of an otherwise solved notebook. The comment above it
says what it tries. Marks are compared, check cell by check cell, with those of the same notebook
without the attack.
"""

import secrets
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autograder import sandbox
from autograder.judging import Judgement, Outcome, Patience, judge, load_master
from autograder.rubric import specimen
from helpers.checking import Status

ID = "d1_autoencoder"
MASTER = load_master(ID)
PATIENCE = Patience(cell=3.0, request=8.0, submission=60.0)
#: What can be checked without a trained model.
UNTRAINED = frozenset({"architecture", "settings", "loss", "training"})
FULL = {name: MASTER.cell(name).points for name in UNTRAINED}

Judge = Callable[..., Judgement]

TOP = sandbox.isolation_level()
#: This machine's isolation level; in the long run the lower ones that confine student code, too.
LEVELS = [
    pytest.param(level, id=f"level {level}", marks=[pytest.mark.long] if level < TOP else [])
    for level in range(TOP, 0, -1)
]

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(TOP == 0, reason="there is no sandbox here"),
]


@pytest.fixture(scope="module", params=LEVELS)
def level(request: pytest.FixtureRequest) -> int:
    """The isolation level that all of this runs at."""
    return int(request.param)


@pytest.fixture(autouse=True)
def not_again(level: int, request: pytest.FixtureRequest) -> None:
    """Level 1 has no fork server: each of its processes takes seconds to start."""
    if level < TOP and request.node.callspec.id.partition("-")[2] in LONG:
        pytest.skip("tried at the best level")


@pytest.fixture(scope="module")
def judge_changed(level: int, tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Judges the solved notebook with other text in some of its solution cells."""

    def judged(changes: dict[str, str], only: frozenset[str] = UNTRAINED) -> Judgement:
        folder = tmp_path_factory.mktemp("hand-in")
        path = specimen.save_notebook(specimen.solved(MASTER, changes), folder, ID)
        return judge(path, ID, "student", level=level, patience=PATIENCE, only=only)

    return judged


@pytest.fixture(scope="class", autouse=True)
def neighbour(judge_changed: Judge) -> Iterator[None]:
    """Before and after a group of attacks, an honest notebook has all its points."""
    assert points(judge_changed({})) == FULL
    yield
    assert points(judge_changed({})) == FULL


def points(judgement: Judgement) -> dict[str, float | None]:
    return {cell: judgement.points(cell) for cell in {check.cell for check in judgement.checks}}


def expect_sound(judgement: Judgement) -> None:
    """A judgement that holds: in time, and with nothing that is called our own fault."""
    ours = [f"{c.id}: {c.message}" for c in judgement.checks if c.status is Status.INFRASTRUCTURE]
    assert not ours
    assert judgement.status is not Outcome.INFRASTRUCTURE
    assert judgement.seconds < PATIENCE.submission + 10
    assert all(len(check.message) < 2000 for check in judgement.checks)
    judgement.model_dump_json()


def expect_no_gain(judgement: Judgement, honest: dict[str, float]) -> None:
    """Not a point more than without the attack."""
    expect_sound(judgement)
    for cell, earned in points(judgement).items():
        assert earned is not None
        assert earned <= honest[cell]


def before(name: str, attack: str) -> dict[str, str]:
    """The attack at the beginning of a solution cell."""
    mark, _, rest = MASTER.cell(name).source.partition("\n")
    return {name: f"{mark}\n{textwrap.dedent(attack).strip()}\n{rest}"}


def in_forward(attack: str) -> dict[str, str]:
    """The attack in place of what forward does."""
    lines = textwrap.indent(textwrap.dedent(attack).strip(), " " * 8).lstrip()
    source = MASTER.cell("model_class").source
    changed = source.replace("return self.decoder(self.encoder(x))", lines)
    assert changed != source
    return {"model_class": changed}


#: Frames as the worker would send them.
_FORGE = """
import json, os, struct, threading
def frame(message):
    header = json.dumps(message).encode()
    return struct.pack(">IQ", len(header), 0) + header
def flood(data):
    for fd in range(3, 256):
        try:
            os.set_blocking(fd, False)
            os.write(fd, data)
        except OSError:
            pass
"""

_LONG = """
    syntax, endless in C, endless, reads its standard input, waits in a shell, list of bytes,
    prints without end, sys.exit, quit, GeneratorExit, abort, endless recursion, __str__ exits,
    NameError of a list, a passed status, rubbish to all files, a broken frame, exits, SystemExit,
    KeyboardInterrupt in forward, prints 100 MB in forward, an int that lies, a float16 tensor,
    a bool tensor, a float8 tensor, a quantised tensor, a tensor over the limit, nothing,
    a list within itself, a huge dict, a generator, itself, different at each call, torch.equal,
    builtins, helpers.expect, protocol.send, zero, text, dict, dict of ints, handle
"""
#: Judged in the long run alone, and at the best level alone: near others, or slow.
LONG = {name.strip() for name in _LONG.split(",")}


def cases(attacks: dict[str, str]) -> list[Any]:
    """Parameters of a test, by name."""
    marks = {True: [pytest.mark.long], False: []}
    return [
        pytest.param(code, id=name, marks=marks[name in LONG]) for name, code in attacks.items()
    ]


#: Attacks on the process, at the top of a cell: the model's cell stays honest and keeps its points.
IN_CELL = {
    # nothing: a plain mistake
    "raises": "raise RuntimeError('no')",
    "syntax": "def (",
    # to hold the judge up for ever
    "endless": "while True: pass",
    "endless, deaf to exceptions": """
        while True:
            try:
                while True: pass
            except BaseException: pass
    """,
    "endless, deaf to the alarm": """
        import signal
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        while True: pass
    """,
    "endless in C": "sum(range(10**15))",
    "waits for a key": "input('Press a key')",
    "reads its standard input": "import sys; sys.stdin.read()",
    "waits in a shell": "!sleep 1000",
    # to use up the memory
    "list of bytes": "x = []\nwhile True: x.append(bytes(10**8))",
    "a huge tensor": "torch.zeros(10**12)",
    "many tensors": "x = []\nwhile True: x.append(torch.empty(10**8, dtype=torch.uint8))",
    # to fill pipes, logs or disks
    "prints 100 MB": "print('x' * 10**8)",
    "prints without end": "while True: print('x' * 10**6)",
    "fills the disk": "f = open('/tmp/full', 'wb')\nwhile True: f.write(bytes(2**20))",
    # to end the process with a good exit status, or with none
    "os._exit": "import os; os._exit(0)",
    "sys.exit": "import sys; sys.exit(0)",
    "exit": "exit()",
    "quit": "quit()",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "GeneratorExit": "raise GeneratorExit",
    "abort": "import os; os.abort()",
    "segmentation fault": "import ctypes; ctypes.string_at(0)",
    "endless recursion": "import sys; sys.setrecursionlimit(10**8)\ndef f(): f()\nf()",
    # to look like a process that the kernel killed
    "exit status of a kill": "import os; os._exit(137)",
    # to break what reports the exception
    "__str__ raises": "class E(Exception):\n    def __str__(self): raise self\nraise E",
    "__str__ exits": "class E(Exception):\n    def __str__(self): exit()\nraise E",
    "__str__ of 100 MB": "class E(Exception):\n    def __str__(self): return 'x' * 10**8\nraise E",
    "a lone surrogate": r"raise ValueError('\ud800 \x00 \x1b')",
    "an odd name": "raise type('\\ud800' * 10**5, (ValueError,), {})('no')",
    "NameError of a list": "raise NameError('x', name=[])",
    "an exception that lies": """
        class E(Exception):
            __class__ = property(lambda self: 1 / 0)
        raise E
    """,
    "a metaclass that exits": """
        class Meta(type):
            def __call__(cls, *args): exit()
            __name__ = property(lambda cls: exit())
        class E(Exception, metaclass=Meta): pass
        raise E
    """,
    # to pass for a status that is not the student's to give
    "a forged status": """
        from helpers.checking import StudentError
        raise StudentError('infrastructure', 'not my fault')
    """,
    "a passed status": """
        from helpers.checking import StudentError
        raise StudentError('passed', 'well done')
    """,
    # to close or to fill what the worker talks through
    "closes all files": "import os; os.closerange(0, 256)",
    "rubbish to all files": _FORGE + "flood(b'rubbish' * 1000)",
    "100 MB to all files": _FORGE + "flood(bytes(10**8))",
    "a huge length to all files": _FORGE + "flood(struct.pack('>IQ', 2**32 - 1, 2**64 - 1))",
    "a broken frame": _FORGE + "flood(struct.pack('>IQ', 5, 0) + b'[[[[[')",
    # to leave something running
    "a busy thread": """
        import threading
        def busy():
            while True: pass
        threading.Thread(target=busy).start()
    """,
    "shuts the socket": """
        import socket
        for fd in range(3, 256):
            try: socket.socket(fileno=fd).shutdown(2)
            except OSError: pass
    """,
}


class TestInCell:
    @pytest.mark.parametrize("attack", cases(IN_CELL))
    def test_rest_keeps_its_points(self, attack: str, judge_changed: Judge) -> None:
        only = frozenset({"architecture", "settings"})
        judgement = judge_changed(before("choices", attack), only)
        expect_no_gain(judgement, FULL)
        assert judgement.points("architecture") == FULL["architecture"]

    def test_all_cells_exit(self, judge_changed: Judge) -> None:
        changes: dict[str, str] = {}
        for name in ("model_class", "choices", "loss_and_optimizer", "train_epoch"):
            changes |= before(name, "import os; os._exit(0)")
        judgement = judge_changed(changes)
        expect_sound(judgement)
        assert judgement.score == 0

    @pytest.mark.long
    def test_all_cells_are_endless(self, judge_changed: Judge) -> None:
        changes: dict[str, str] = {}
        for name in ("model_class", "choices", "loss_and_optimizer", "train_epoch"):
            changes |= before(name, IN_CELL["endless, deaf to exceptions"])
        judgement = judge_changed(changes)
        expect_sound(judgement)
        assert judgement.score == 0
        assert judgement.status is Outcome.TIMEOUT


class TestProcesses:
    """What a notebook starts or leaves is gone with it."""

    @pytest.fixture(autouse=True)
    def needs_namespaces(self, level: int) -> None:
        if level < 2:
            pytest.skip("level 1 does not promise this: see SECURITY.md")

    @pytest.mark.parametrize(
        "attack",
        [
            # to take all processes of the machine
            "while True:\n    try: os.fork()\n    except OSError: pass",
            # to survive the judging
            """
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0: time.sleep(1000)
                os._exit(0)
            """,
            # to answer in the place of the worker, from a process of its own
            "if os.fork() > 0: time.sleep(1000)",
        ],
        ids=["fork bomb", "daemon", "the child goes on"],
    )
    def test_nothing_stays(self, attack: str, judge_changed: Judge) -> None:
        marker = f"marker{secrets.token_hex(6)}".encode()
        name = f"""
import ctypes, os, time
ctypes.CDLL(None).prctl(15, {marker[:15]!r})
"""
        expect_no_gain(judge_changed(before("choices", name + textwrap.dedent(attack))), FULL)
        end = time.monotonic() + 5
        while (left := _called(marker[:15])) and time.monotonic() < end:
            time.sleep(0.1)
        assert left == 0

    def test_no_letter_box(self, judge_changed: Judge) -> None:
        """Files that one process leaves are not there in the next, nor in the next hand-in."""
        leave = """
            import os
            assert 'left' not in os.listdir('/tmp') + os.listdir('/dev/shm')
            open('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x')
        """
        kills = before("loss_and_optimizer", "import os; os._exit(0)")
        only = frozenset({"architecture", "settings"})
        for _ in range(2):
            judgement = judge_changed(before("choices", leave) | kills, only)
            assert points(judgement) == {cell: FULL[cell] for cell in only}


def _called(name: bytes) -> int:
    """How many processes of this machine go by a name."""
    count = 0
    for file in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            count += file.read_bytes().strip() == name
    return count


#: What forward may answer with, or do.
IN_FORWARD = {
    "raises": "raise ValueError",
    "endless in forward": "while True: pass",
    "exits": "import os; os._exit(0)",
    "SystemExit": "raise SystemExit(0)",
    "KeyboardInterrupt in forward": "raise KeyboardInterrupt",
    "a huge tensor": "return torch.zeros(10**12)",
    "many tensors": "x = []\nwhile True: x.append(torch.empty(10**8, dtype=torch.uint8))",
    "prints 100 MB in forward": "print('x' * 10**8)\nreturn x",
    # to be taken for equal to whatever it is compared with
    "a tensor that equals all": """
        class Yes(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None): return True
        return torch.zeros(7, 1, 28, 28).as_subclass(Yes)
    """,
    "an object that equals all": """
        class Yes:
            __class__ = torch.Tensor
            __eq__ = __le__ = __lt__ = __gt__ = lambda *_: True
            __getattr__ = lambda self, name: self
            __call__ = lambda self, *_, **__: self
        return Yes()
    """,
    "a float that raises": """
        class F(float):
            def __float__(self): raise SystemExit
        return F(0)
    """,
    "an int that lies": "class I(int):\n    def __int__(self): return 10**5000\nreturn I(0)",
    "an int of 5000 digits": "return 10**5000",
    "a float64 tensor": "return self.decoder(self.encoder(x)).double()",
    "a float16 tensor": "return self.decoder(self.encoder(x)).half()",
    "a bool tensor": "return x > 0",
    "a complex tensor": "return x * 1j",
    "a float8 tensor": "return x.to(torch.float8_e4m3fn)",
    "a quantised tensor": "return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)",
    "a sparse tensor": "return x.to_sparse()",
    "a tensor without data": "return x.to('meta')",
    "a nested tensor": "return torch.nested.nested_tensor([x[0], x[0, 0]])",
    "a tensor of stride 0": "return torch.zeros(1).expand(10**12)",
    "a tensor over the limit": "return torch.zeros(1).expand(2 * 10**7)",
    "empty, of endless shape": "return torch.zeros(0, 2**62)",
    "NaN": "return x * float('nan')",
    "one number": "return torch.zeros(())",
    "nothing": "return None",
    "a deep list": "y = []\nfor _ in range(10**5): y = [y]\nreturn y",
    "a list within itself": "y = []\ny.append(y)\nreturn y",
    "a huge list": "return [0.5] * 10**6",
    "a huge dict": "return dict.fromkeys(range(10**6))",
    "a dict with odd keys": r"return {'\ud800': 1, 1: 2, '1': 3}",
    "a text of 10 MB": "return 'x' * 10**7",
    "a text that does not end": """
        class S(str):
            def __getitem__(self, i): return self
        return S('x' * 10**7)
    """,
    "a generator": "return (y for y in x)",
    "a type with an odd name": r"return type('\ud800' * 10**6, (), {})()",
    "different at each call": "return torch.rand_like(x)",
    "itself": "return self",
}
#: Odd, and right: what they add to a wrong forward is theirs.
HONEST = ("a float64 tensor", "a float16 tensor")


class TestInForward:
    @pytest.fixture(scope="class")
    @classmethod
    def honest(cls, judge_changed: Judge) -> dict[str, float]:
        """What the class earns whose forward gives back its input."""
        found = judge_changed(in_forward("return x"), frozenset({"architecture"}))
        earned = found.points("architecture")
        assert earned is not None
        assert 0 < earned < FULL["architecture"]
        return {"architecture": earned}

    @pytest.mark.parametrize("attack", cases(IN_FORWARD))
    def test_no_gain(self, attack: str, judge_changed: Judge, honest: dict[str, float]) -> None:
        judgement = judge_changed(in_forward(attack), frozenset({"architecture"}))
        expect_sound(judgement)
        if attack not in {IN_FORWARD[name] for name in HONEST}:
            expect_no_gain(judgement, honest)


#: What to do so that wrong answers look right.
CHEATS = {
    # to change what compares
    "torch.allclose": "torch.allclose = lambda *_, **__: True",
    "torch.equal": "torch.equal = torch.isclose = lambda *_, **__: True",
    "Tensor.__eq__": "torch.Tensor.__eq__ = torch.Tensor.__lt__ = lambda *_: torch.tensor(True)",
    "mse_loss": "nn.functional.mse_loss = lambda *_, **__: torch.zeros((), requires_grad=True)",
    "builtins": "import builtins; builtins.all = builtins.any = lambda *_: True",
    # to change the checks
    "helpers.checking.run": """
        import helpers.checking.registry as c
        c.run = lambda check, submission: c.Result(check, c.Status.PASSED)
    """,
    "helpers.checking.expect": """
        import helpers.checking, sys
        e = sys.modules['helpers.checking.expect']
        e.expect = e.fail = lambda *_, **__: None
        e.close = lambda *_: True
    """,
    "helpers.checks": """
        import helpers.checks.d1_autoencoder as c
        for check in [n for n in vars(c) if n[0] != '_']: setattr(c, check, lambda *_, **__: None)
    """,
    # to change the worker
    "protocol.send": "from inside import protocol; protocol.send = lambda *_, **__: None",
    "protocol.encode": """
        from inside import protocol
        real = protocol.encode
        protocol.encode = lambda message, caps=None: real({'value': True, 'points': 100})
    """,
    "protocol._pack": """
        from inside import protocol
        protocol._pack = lambda *_: {'dict': {'value': {'float': 'nan'}}}
    """,
    "Worker": """
        from inside.worker import Worker
        Worker.answer = lambda self, message: True
    """,
    "Status": """
        from helpers.checking import StudentError
        from inside.worker import Worker
        def answer(self, message): raise StudentError('passed', 'Passed.')
        Worker.answer = answer
    """,
    # to be first with an answer, or with many
    "answers to all files": _FORGE + "flood(frame({'dict': {'value': True}}) * 100)",
    "answers all the time": _FORGE
    + """
def more():
    while True: flood(frame({'dict': {'value': {'float': 'nan'}}}))
threading.Thread(target=more, daemon=True).start()
""",
}
#: What a worker answers to each request, once student code has changed the engine.
FORGED_ANSWERS = {
    "none": "None",
    "true": "True",
    "zero": "0.0",
    "infinity": "float('inf')",
    "text": "'passed'",
    "list": "[]",
    "lists of everything": "[['', 'Linear', False, True, float('inf')]] * 9",
    "dict": "{}",
    "dict of ints": "{'encoder.1.weight': 1}",
    "dict of bool tensors": "{'encoder.1.weight': torch.ones(3, dtype=torch.bool)}",
    "tensor": "torch.zeros(())",
    "int tensor": "torch.zeros(7, 1, 28, 28, dtype=torch.int64)",
    "half tensor": "torch.zeros(7, 1, 28, 28).half()",
    "handle": "Ref(0, 'Sequential')",
    "handle far off": "Ref(2**62, 'Sequential')",
    "handles": "{'a': Ref(0, 'x'), 'b': [Ref(0, 'x')]}",
    "something else each time": "random.choice([None, True, [], {}, torch.zeros(()), Ref(0, '')])",
}


def forged(answer: str) -> dict[str, str]:
    """The worker's engine answers everything with one thing."""
    attack = f"""
        import random
        from helpers.checking import Engine, Ref
        Engine.execute = lambda self, request: {answer}
    """
    return before("train_epoch", attack)


class TestCheats:
    #: A model that gives back its input, and a training that does nothing.
    WRONG = in_forward("return x") | {
        "train_epoch": "def train_epoch(model, loader, criterion, optimizer, device): return 0.0",
        "loss_and_optimizer": "criterion, optimizer = nn.L1Loss(), None",
    }

    @pytest.fixture(scope="class")
    @classmethod
    def honest(cls, judge_changed: Judge) -> dict[str, float]:
        found = judge_changed(cls.WRONG)
        expect_sound(found)
        return {cell: earned or 0.0 for cell, earned in points(found).items()}

    @pytest.mark.parametrize("attack", cases(CHEATS))
    def test_no_gain(self, attack: str, judge_changed: Judge, honest: dict[str, float]) -> None:
        judgement = judge_changed({**self.WRONG, **before("choices", attack)})
        expect_no_gain(judgement, honest)

    @pytest.mark.parametrize("answer", cases(FORGED_ANSWERS))
    def test_forged_answers(self, answer: str, judge_changed: Judge) -> None:
        """Whatever a worker answers, the judge's checks can bear it."""
        judgement = judge_changed({**self.WRONG, **forged(answer)})
        expect_sound(judgement)
        assert judgement.score is not None
        assert judgement.score <= FULL["settings"]
