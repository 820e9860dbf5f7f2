"""What crosses the border between two processes: frames of bytes, values in them, and what was raised on the other side."""

from __future__ import annotations

import pickle
import socket
import struct
import traceback
from collections.abc import Mapping, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import Any, NamedTuple

from batchrun.core.errors import InvalidValue, NodeError
from batchrun.flow.retry import is_retryable
from batchrun.nodes.guarded import attempted

STARTED, NOT_STARTED, VALUE, RAISED = b"S", b"N", b"V", b"R"
"""How an answer of a worker begins."""

LENGTH = struct.Struct("<Q")
"""What a frame begins with: the number of bytes that follow. A frame without any ends a worker."""

_FOLDER = str(Path(__file__).parent)
_MESSAGE_CHARS = 4_000
_TRACEBACK_CHARS = 12_000
_NOT_RAISED_HERE = (StopIteration, StopAsyncIteration)  # coroutines turn these into something else


class Fault(NamedTuple):
    """An exception, told to another process.

    Attributes:
        pickled: the exception; null when it would not come out as it went in.
        names: module and qualified name of its class and of all classes that one derives from.
        message: for people.
        retryable: whether the same call may succeed when it is made again.
        http_status: the status code that a service answered with.
        retry_after_seconds: how long a service asked to be left alone.
        traceback: where it was raised, for people.
    """

    pickled: bytes | None
    names: tuple[tuple[str, str], ...]
    message: str
    retryable: bool
    http_status: int | None
    retry_after_seconds: float | None
    traceback: str


def packed(value: Any, what: str) -> bytes:
    """A value as bytes.

    Raises:
        InvalidValue: it cannot be sent to another process; the message names its type.
    """
    data, error = attempted(lambda: pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    if data is None:
        raise InvalidValue(f"{what} of type {type(value).__qualname__} cannot be sent to another process: {_said(error)}")
    return data


def packed_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """The arguments of a call as bytes.

    Raises:
        InvalidValue: one of them cannot be sent to another process; the message names it and its type.
    """
    data, _ = attempted(lambda: pickle.dumps((args, kwargs), pickle.HIGHEST_PROTOCOL))
    if data is not None:
        return data
    for place, value in (*enumerate(args, 1), *kwargs.items()):
        packed(value, f"the input {place!r}" if isinstance(place, str) else f"input number {place}")
    return packed((args, kwargs), "inputs")


def unpacked(data: bytes, what: str) -> Any:
    """The value again.

    Raises:
        InvalidValue: this process cannot make it.
    """
    value, error = attempted(lambda: pickle.loads(data))  # noqa: S301 - from our own process, over a private pipe
    if error is not None:
        raise InvalidValue(f"{what} cannot be made again in another process: {_said(error)}")
    return value


def fault_of(error: BaseException) -> Fault:
    """An exception as it is told to another process. Never raises, whatever the exception is like."""
    kind = type(error)
    frames = list(dropwhile(_is_ours, traceback.extract_tb(error.__traceback__)))
    http_status, _ = attempted(lambda: getattr(error, "http_status", None))
    retry_after, _ = attempted(lambda: getattr(error, "retry_after_seconds", None))
    return Fault(
        pickled=_faithful(error),
        names=tuple((each.__module__, each.__qualname__) for each in kind.__mro__ if each not in (Exception, BaseException, object)),
        message=_said(error, with_type=False)[:_MESSAGE_CHARS],
        retryable=attempted(lambda: is_retryable(error)).value is True,
        http_status=http_status if type(http_status) is int else None,
        retry_after_seconds=float(retry_after) if isinstance(retry_after, int | float) else None,
        traceback="".join(traceback.format_list(frames))[-_TRACEBACK_CHARS:],
    )


def error_of(fault: Fault) -> Exception:
    """The exception that was raised in another process, else one of the same names that says the same."""
    data = fault.pickled
    error = attempted(lambda: pickle.loads(data)).value if data is not None else None  # noqa: S301 - as above
    if not isinstance(error, Exception):
        error = _stand_in(fault)
    attempted(lambda: setattr(error, "remote_traceback", fault.traceback))
    return error


def send_frame(connection: socket.socket, data: bytes) -> None:
    """Write a frame; blocks."""
    connection.sendall(LENGTH.pack(len(data)) + data)


def read_frame(connection: socket.socket) -> bytes | None:
    """Read a frame; blocks. Null: the other side is gone."""
    header = _read(connection, LENGTH.size)
    return None if header is None else _read(connection, LENGTH.unpack(header)[0])


def _read(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        try:
            count = connection.recv_into(view[filled:])
        except ConnectionError:
            return None
        if not count:
            return None
        filled += count
    return bytes(data)


def _faithful(error: BaseException) -> bytes | None:
    """An exception as bytes, when it comes out of them as it is and can be raised anywhere."""
    if not isinstance(error, Exception) or isinstance(error, _NOT_RAISED_HERE):
        return None  # sys.exit() and its like must not end another process
    data, _ = attempted(lambda: pickle.dumps(error, pickle.HIGHEST_PROTOCOL))
    if data is None:
        return None
    again, _ = attempted(lambda: pickle.loads(data))  # noqa: S301 - just made
    return data if type(again) is type(error) and _said(again) == _said(error) else None


def _stand_in(fault: Fault) -> NodeError:
    kind: type[NodeError] = NodeError
    for module, name in reversed(fault.names):  # so that retry rules find it by any of its names
        kind = type(name.rpartition(".")[2], (kind,), {"__module__": module, "__qualname__": name})
    error = kind.__new__(kind, fault.message)
    error.retryable = fault.retryable
    error.http_status = fault.http_status
    error.retry_after_seconds = fault.retry_after_seconds
    return error


def _said(error: BaseException | None, *, with_type: bool = True) -> str:
    text, failed = attempted(lambda: str(error))
    message = f"(the message cannot be shown: {type(failed).__name__})" if text is None else text
    return f"{type(error).__name__}: {message}" if with_type else message


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_FOLDER)
