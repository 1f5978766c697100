"""The messages between the judge and the sandbox: plain data and tensors.

A message is a frame: two lengths, a JSON header, and the tensors as one safetensors blob. Nothing
is pickled, in either direction. The judge trusts nothing that it reads: sizes are checked before
bytes are read, and anything wrong with a message raises :class:`ProtocolError`.
"""

import json
import math
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from helpers.checking import Ref

_LENGTHS = struct.Struct(">IQ")
#: The longest JSON header that is read from the sandbox, and the longest safetensors header.
MAX_HEADER_BYTES = 64 * 2**10
#: The most tensor data that one answer may carry.
MAX_BLOB_BYTES = 64 * 2**20
_DTYPES = frozenset(
    {torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool}
    | {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
)
_MAX_DEPTH = 12
_MAX_INT = 2**63


class ProtocolError(Exception):
    """The other side broke the rules or closed the connection."""


class DeadlineError(ProtocolError):
    """The time for this exchange ran out."""


@dataclass(frozen=True)
class Caps:
    """The largest message that is read, in bytes."""

    header: int = MAX_HEADER_BYTES
    blob: int = MAX_BLOB_BYTES


#: For what the worker reads from the judge: it may be a large notebook or a batch of images.
TRUSTED = Caps(header=64 * 2**20, blob=2**31)


def encode(message: Any, caps: Caps | None = None) -> bytes:
    """Encode a message as a frame.

    Raises:
        TypeError, ValueError: if the message contains anything else than plain data, tensors and
            :class:`Ref`, or is larger than ``caps``.
    """
    caps = caps or TRUSTED
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_pack(message, tensors)).encode()
    blob = save_safetensors(tensors) if tensors else b""
    if len(header) > caps.header or len(blob) > caps.blob:
        raise ValueError("this is too much to pass on")
    return _LENGTHS.pack(len(header), len(blob)) + header + blob


def send(sock: socket.socket, message: Any, deadline: float | None = None) -> None:
    """Send a tree of plain data, tensors and :class:`Ref`.

    Args:
        deadline: the time.monotonic() at which to give up; None waits forever.

    Raises:
        DeadlineError: if it took too long.
        ProtocolError: if the other side has closed the connection.
        TypeError, ValueError: if the message contains anything else.
    """
    data = encode(message)
    try:
        _wait(sock, deadline)
        sock.sendall(data)
    except TimeoutError as error:
        raise DeadlineError("The time ran out while sending.") from error
    except OSError as error:
        raise ProtocolError("The other side has closed the connection.") from error


def receive(sock: socket.socket, deadline: float | None = None, caps: Caps | None = None) -> Any:
    """Receive the next message; tuples arrive as lists.

    Raises:
        DeadlineError: if it took too long.
        ProtocolError: if anything else is wrong with it.
    """
    caps = caps or Caps()
    try:
        n_header, n_blob = _LENGTHS.unpack(_read(sock, _LENGTHS.size, deadline))
        if n_header > caps.header or n_blob > caps.blob:
            raise ProtocolError("The message is too large.")
        header = json.loads(_read(sock, n_header, deadline))
        blob = _read(sock, n_blob, deadline)
        return _unpack(header, read_tensors(blob, caps.header) if blob else {})
    except ProtocolError:
        raise
    except TimeoutError as error:
        raise DeadlineError("The time ran out while waiting.") from error
    except Exception as error:  # json, safetensors and struct raise many kinds
        raise ProtocolError(f"The message cannot be read ({type(error).__name__}).") from error


def expect_silence(sock: socket.socket) -> None:
    """Check that the other side has sent nothing before it was asked.

    Raises:
        ProtocolError: if it has, or if it has closed the connection.
    """
    sock.setblocking(False)
    try:
        early = sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return
    except OSError as error:
        raise ProtocolError("The other side has closed the connection.") from error
    if early:
        raise ProtocolError("An answer came before the question.")
    raise ProtocolError("The other side has closed the connection.")


def _wait(sock: socket.socket, deadline: float | None) -> None:
    """Set the socket's timeout to the time that is left."""
    if deadline is None:
        sock.settimeout(None)
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _read(sock: socket.socket, n_bytes: int, deadline: float | None) -> bytearray:
    """Read exactly ``n_bytes``. The deadline applies to all of them together."""
    data = bytearray(n_bytes)
    view, n_read = memoryview(data), 0
    while n_read < n_bytes:
        _wait(sock, deadline)
        n_new = sock.recv_into(view[n_read:])
        if n_new == 0:
            raise ProtocolError("The other side has closed the connection.")
        n_read += n_new
    return data


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as a JSON tree; each tensor goes into ``tensors`` and is replaced by its number."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) >= _MAX_INT:
            raise ValueError("a whole number is too large to pass on")
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Ref):
        return {"ref": [value.number, value.type_name]}
    if isinstance(value, Tensor):
        if value.dtype not in _DTYPES or value.layout is not torch.strided:
            raise TypeError(f"a tensor of {value.dtype}, {value.layout} cannot be passed on")
        # A copy, because safetensors refuses tensors that share memory.
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, list | tuple):
        return {"list": [_pack(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": {str(key): _pack(item, tensors) for key, item in value.items()}}
    raise TypeError(f"a {type(value).__name__} cannot be passed on")


def _unpack(value: Any, tensors: dict[str, Tensor], depth: int = 0) -> Any:
    """The reverse of :func:`_pack`; anything unexpected raises an exception."""
    if depth > _MAX_DEPTH:
        raise ProtocolError("The message is nested too deeply.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        if abs(value) >= _MAX_INT:
            raise ProtocolError("A number is too large.")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ProtocolError("NaN and infinity have a form of their own.")
        return value
    ((kind, content),) = value.items()
    if kind == "float" and content in ("nan", "inf", "-inf"):
        return float(content)
    if kind == "ref":
        number, type_name = content
        if type(number) is int and 0 <= number < _MAX_INT and type(type_name) is str:
            return Ref(number, _text(type_name[:200]))
    if kind == "tensor":
        return tensors[content]
    if kind == "list" and type(content) is list:
        return [_unpack(item, tensors, depth + 1) for item in content]
    if kind == "dict" and type(content) is dict:
        return {_text(key): _unpack(item, tensors, depth + 1) for key, item in content.items()}
    raise ProtocolError(f"The message holds a {kind!r:.20} that is not allowed.")


def _text(value: str) -> str:
    """A text without lone surrogates: JSON allows them, but they cannot be written to a file."""
    return value.encode(errors="replace").decode()


def read_tensors(data: bytes | bytearray, max_header: int = MAX_HEADER_BYTES) -> dict[str, Tensor]:
    """Read tensors from safetensors bytes, which may be anything.

    Raises:
        ProtocolError: if the header is too long (a million empty tensors would take gigabytes) or a
            dtype is not allowed.
        Exception: any kind, from the parser.
    """
    if len(data) < 8 or int.from_bytes(data[:8], "little") > max_header:
        raise ProtocolError("The header of the tensors is damaged or too long.")
    tensors = load_safetensors(bytes(data))
    for tensor in tensors.values():
        if tensor.dtype not in _DTYPES:
            raise ProtocolError(f"Tensors of dtype {tensor.dtype} are not allowed.")
    return tensors
