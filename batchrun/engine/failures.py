"""How an exception stands in the result."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from itertools import dropwhile
from pathlib import Path
from typing import TypeVar

from batchrun.core.errors import ErrorRecord
from batchrun.flow.retry import is_retryable

T = TypeVar("T")

_FOLDER = str(Path(__file__).parent)
_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_MESSAGE_CHARS = 4_000
_TRACEBACK_CHARS = 12_000


def error_record(error: BaseException, node_id: str | None) -> ErrorRecord:
    """The record of an exception that was raised below a function of the engine. Never raises, whatever the exception is like."""
    return ErrorRecord(
        type=type(error).__name__,
        message=message_of(error),
        node_id=node_id,
        retryable=asked(lambda: is_retryable(error), default=False),
        http_status=asked(lambda: _http_status(error), default=None),
        traceback=_traceback(error),
    )


def message_of(error: BaseException) -> str:
    """The message of an exception, as text that can be written down."""
    try:
        return _clean(str(error)[:_MESSAGE_CHARS])
    except BaseException as second:  # a __str__ of the user's
        if is_abort(second):
            raise
        return f"(the message cannot be shown: {type(second).__name__})"


def is_abort(error: BaseException) -> bool:
    """Whether an exception is a signal that ends the program, and not one that code of users raised."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def asked(question: Callable[[], T], default: T) -> T:
    """The answer to a question that may run code of users; `default` when that raises."""
    try:
        return question()
    except BaseException as second:  # an attribute, a comparison or a conversion of the user's
        if is_abort(second):
            raise
        return default


def _traceback(error: BaseException) -> str | None:
    text = asked(lambda: getattr(error, "remote_traceback", None), default=None)
    if not isinstance(text, str):
        frames = list(dropwhile(_is_ours, traceback.extract_tb(error.__traceback__)))
        is_own = all(frame.filename.startswith(_PACKAGE) for frame in frames)  # its message says all that people can use
        text = "" if is_own else "".join(traceback.format_list(frames))
    return _clean(text[-_TRACEBACK_CHARS:]) if text else None


def _http_status(error: BaseException) -> int | None:
    status = getattr(error, "http_status", None)
    return int(status) if isinstance(status, int) and not isinstance(status, bool) and 0 <= status <= 999 else None


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_FOLDER)


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
