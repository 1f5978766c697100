"""The border between judge and sandbox: what crosses it, and all that must not."""

import contextlib
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from autograder.sandbox.inside import protocol
from autograder.sandbox.inside.protocol import Caps, DeadlineError, ProtocolError
from helpers.checking import Ref

Pair = tuple[socket.socket, socket.socket]


@contextlib.contextmanager
def open_pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def pair() -> Iterator[Pair]:
    with open_pair() as sockets:
        yield sockets


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


def crossed(message: Any) -> Any:
    """What arrives of a message."""
    with open_pair() as (ours, theirs):
        sender = threading.Thread(target=protocol.send, args=(theirs, message, soon()))
        sender.start()
        try:
            return protocol.receive(ours, soon())
        finally:
            sender.join()


def frame(header: bytes, blob: bytes = b"") -> bytes:
    return struct.pack(">IQ", len(header), len(blob)) + header + blob


def refused(data: bytes, caps: Caps | None = None) -> str:
    """Why raw bytes are refused."""
    with open_pair() as (ours, theirs):
        sender = threading.Thread(target=theirs.sendall, args=(data,))
        sender.start()
        with pytest.raises(ProtocolError) as caught:
            protocol.receive(ours, soon(), caps)
        ours.close()
        sender.join()
    return str(caught.value)


@pytest.fixture(autouse=True)
def _broken_pipes_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)


class TestRoundTrip:
    @pytest.mark.parametrize(
        "message",
        [
            None,
            True,
            0,
            -(2**62),
            1.5,
            1e-300,
            "",
            "ä \0 \n €",
            [],
            {},
            [1, [2.0, [None]]],
            {"a": {"b": [False]}, "": 0, "list": {"list": []}, "tensor": "0"},
            Ref(7, "Autoencoder"),
        ],
    )
    def test_plain_data(self, message: Any) -> None:
        received = crossed(message)
        assert received == message
        assert type(received) is type(message)

    def test_tuples_become_lists_and_keys_texts(self) -> None:
        assert crossed({1: (2, 3)}) == {"1": [2, 3]}

    @pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
    def test_floats_that_json_does_not_know(self, number: float) -> None:
        assert str(crossed([number])[0]) == str(number)

    @pytest.mark.parametrize("dtype", sorted(protocol._DTYPES, key=str), ids=str)
    @pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
    def test_tensors(self, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        tensor = torch.randn(shape).mul(3).to(dtype)
        received = crossed({"x": [tensor]})["x"][0]
        assert received.dtype == dtype
        assert received.shape == shape
        assert torch.equal(received, tensor)

    def test_tensors_of_every_stride(self) -> None:
        base = torch.randn(4, 6, requires_grad=True)
        views = [base, base, base.T, base[::2, 1:], base[:1].expand(3, 6), torch.nn.Parameter(base)]
        for view, received in zip(views, crossed(views), strict=True):
            assert torch.equal(view, received)
            assert not received.requires_grad

    def test_special_numbers_in_tensors(self) -> None:
        assert crossed(torch.tensor([math.nan, math.inf])).isfinite().tolist() == [False, False]

    def test_lone_surrogates_are_replaced(self) -> None:
        ref = crossed([{"\ud800": "a\udfff"}, Ref(1, "\ud800")])
        assert ref == [{"?": "a?"}, Ref(1, "?")]

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63) + 1, 2**63 - 1)
            | st.text(max_size=50)
            | st.floats(allow_nan=False),
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(st.text(max_size=5), inner, max_size=4)
            ),
            max_leaves=12,
        )
    )
    def test_anything_plain(self, message: Any) -> None:
        # Deeper than the engine ever sends is refused, not mangled.
        with contextlib.suppress(ProtocolError):
            assert crossed(message) == message


class TestSendingRefuses:
    @pytest.mark.parametrize(
        "message",
        [
            object(),
            {1, 2},
            b"bytes",
            2**63,
            10**5000,
            torch.zeros(2, dtype=torch.complex64),
            torch.eye(2).to_sparse(),
            torch.zeros(2, device="meta"),
        ],
        ids=lambda message: type(message).__name__,
    )
    def test_what_has_no_form(self, message: Any) -> None:
        with pytest.raises((TypeError, ValueError, NotImplementedError)):
            protocol.encode([message])

    @pytest.mark.parametrize("message", ["x" * 2**16, torch.zeros(2**24 + 1)], ids=["text", "blob"])
    def test_what_is_too_large(self, message: Any) -> None:
        with pytest.raises(ValueError, match="too much"):
            protocol.encode(message, Caps())


class TestReceivingRefuses:
    @pytest.mark.parametrize(
        ("n_header", "n_blob"),
        [
            (protocol.MAX_HEADER_BYTES + 1, 0),
            (2, protocol.MAX_BLOB_BYTES + 1),
            (2**32 - 1, 2**64 - 1),
        ],
    )
    def test_lengths_before_bytes(self, n_header: int, n_blob: int) -> None:
        assert "too large" in refused(struct.pack(">IQ", n_header, n_blob))

    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[]",
            b"[1]",
            b"{}",
            b"NaN",
            b"-Infinity",
            b"1e999",
            b"9223372036854775808",
            b"9" * 5000,
            b'{"float": "1.0"}',
            b'{"float": 1}',
            b'{"float": ["nan"]}',
            b'{"list": {}}',
            b'{"list": 1}',
            b'{"list": [[]]}',
            b'{"dict": []}',
            b'{"dict": {}, "list": []}',
            b'{"ref": [0]}',
            b'{"ref": [-1, "x"]}',
            b'{"ref": [true, "x"]}',
            b'{"ref": [0.0, "x"]}',
            b'{"ref": [0, 1]}',
            b'{"ref": [9223372036854775808, "x"]}',
            b'{"tensor": "0"}',
            b'{"tensor": []}',
            b'{"pickle": "x"}',
            b'{"list": [' * 5000,
            b'{"list": [' * 14 + b"]}" * 14,
            b"[" * 60_000,
        ],
        ids=lambda header: header[:24].decode(errors="replace"),
    )
    def test_headers(self, header: bytes) -> None:
        assert refused(frame(header))

    @pytest.mark.parametrize(
        "blob",
        [
            b"\0",
            b"\0" * 8,
            b"\xff" * 8,
            struct.pack("<Q", protocol.MAX_HEADER_BYTES + 1)
            + b"{" * (protocol.MAX_HEADER_BYTES + 1),
            save({"0": torch.zeros(3)})[:-1],
            save({"0": torch.zeros(3)}) + b"\0",
            save({"1": torch.zeros(3)}),
            save({"0": torch.zeros(3, dtype=torch.float8_e4m3fn)}),
            save({"0": torch.zeros(3, dtype=torch.complex64)}),
            struct.pack("<Q", 2) + b"[]",
        ],
        ids=range(10),
    )
    def test_blobs(self, blob: bytes) -> None:
        assert refused(frame(b'{"tensor": "0"}', blob))

    @pytest.mark.parametrize(
        "entry",
        [
            {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 12]},
            {"dtype": "F32", "shape": [-3], "data_offsets": [0, 12]},
            {"dtype": "F32", "shape": [3], "data_offsets": [0, 2**60]},
            {"dtype": "F32", "shape": [3], "data_offsets": [12, 0]},
            {"dtype": "object", "shape": [3], "data_offsets": [0, 12]},
            {"dtype": "F32", "shape": "3", "data_offsets": [0, 12]},
        ],
        ids=str,
    )
    def test_lying_entries(self, entry: dict[str, Any]) -> None:
        header = json.dumps({"0": entry}).encode()
        blob = struct.pack("<Q", len(header)) + header + bytes(12)
        assert refused(frame(b'{"tensor": "0"}', blob))

    def test_unused_blob_is_checked_too(self) -> None:
        assert refused(frame(b"null", b"rubbish of some length"))

    @given(
        header=st.binary(max_size=80)
        | st.recursive(
            st.none() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["list", "dict", "ref", "tensor", "float"]), inner
                )
            ),
            max_leaves=8,
        ).map(lambda tree: json.dumps(tree).encode()),
        blob=st.binary(max_size=80) | st.just(save({"0": torch.zeros(2)})),
        cut=st.integers(0, 40),
    )
    def test_fuzz(self, header: bytes, blob: bytes, cut: int) -> None:
        with open_pair() as (ours, theirs):
            data = frame(header, blob)
            theirs.sendall(data[: len(data) - cut])
            theirs.close()
            with contextlib.suppress(ProtocolError):
                protocol.receive(ours, soon())


class TestTime:
    def test_peer_that_says_nothing(self, pair: Pair) -> None:
        with pytest.raises(DeadlineError):
            protocol.receive(pair[0], soon(0.1))

    def test_deadline_that_is_over(self, pair: Pair) -> None:
        pair[1].sendall(frame(b"1"))
        with pytest.raises(DeadlineError):
            protocol.receive(pair[0], soon(-1))
        with pytest.raises(DeadlineError):
            protocol.send(pair[0], 1, soon(-1))

    def test_peer_that_dribbles(self, pair: Pair) -> None:
        """The deadline is for the whole message: a byte now and then does not renew it."""
        done = threading.Event()

        def dribble() -> None:
            for byte in frame(b'"' + b"x" * 1000 + b'"'):
                if done.wait(0.02):
                    break
                pair[1].sendall(bytes([byte]))

        thread = threading.Thread(target=dribble)
        thread.start()
        start = time.monotonic()
        with pytest.raises(DeadlineError):
            protocol.receive(pair[0], soon(0.3))
        done.set()
        thread.join()
        assert time.monotonic() - start < 2

    @pytest.mark.parametrize("reads", [False, True], ids=["not at all", "slowly"])
    def test_peer_that_does_not_read(self, pair: Pair, reads: bool) -> None:
        done = threading.Event()

        def sip() -> None:
            while reads and not done.wait(0.02):
                pair[1].recv(1000)

        thread = threading.Thread(target=sip)
        thread.start()
        start = time.monotonic()
        with pytest.raises(DeadlineError):
            protocol.send(pair[0], torch.zeros(2**20), soon(0.3))
        done.set()
        thread.join()
        assert time.monotonic() - start < 2

    @pytest.mark.parametrize("sent", [b"", b"\0", frame(b"1234")[:-1]])
    def test_peer_that_is_gone(self, pair: Pair, sent: bytes) -> None:
        pair[1].sendall(sent)
        pair[1].close()
        with pytest.raises(ProtocolError, match="closed the connection"):
            protocol.receive(pair[0], soon())
        with pytest.raises(ProtocolError, match="closed the connection"):
            protocol.send(pair[0], torch.zeros(2**20), soon())


class TestSilence:
    def test_silent(self, pair: Pair) -> None:
        protocol.expect_silence(pair[0])

    @pytest.mark.parametrize(
        "act",
        [lambda peer: peer.sendall(b"x"), lambda peer: peer.close()],
        ids=["early answer", "gone"],
    )
    def test_not_silent(self, pair: Pair, act: Callable[[socket.socket], None]) -> None:
        act(pair[1])
        with pytest.raises(ProtocolError):
            protocol.expect_silence(pair[0])
