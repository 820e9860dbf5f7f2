"""How an exception stands in the result."""

from __future__ import annotations

import traceback

from batchrun.core.errors import ErrorRecord
from batchrun.flow.retry import is_retryable

_MESSAGE_CHARS = 4_000
_TRACEBACK_CHARS = 12_000


def error_record(error: BaseException, node_id: str | None) -> ErrorRecord:
    """The record of an exception that was raised below a function of the engine."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first frame is the engine's
    status = getattr(error, "http_status", None)
    return ErrorRecord(
        type=type(error).__name__,
        message=message_of(error),
        node_id=node_id,
        retryable=is_retryable(error),
        http_status=status if isinstance(status, int) and 0 <= status <= 999 else None,
        traceback=_clean("".join(traceback.format_list(frames))[-_TRACEBACK_CHARS:]) if frames else None,
    )


def message_of(error: BaseException) -> str:
    """The message of an exception, as text that can be written down."""
    try:
        return _clean(str(error)[:_MESSAGE_CHARS])
    except Exception as second:  # a __str__ of the user's
        return f"(the message cannot be shown: {type(second).__name__})"


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
