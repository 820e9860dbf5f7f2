"""Identifiers of executions."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

_EXECUTION_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{10}")


def new_execution_id(now: datetime | None = None) -> str:
    """A new id that sorts by time (UTC, to the millisecond, then random).

    Example:
        >>> new_execution_id(datetime(2026, 11, 1, 9, 30, tzinfo=UTC))[:16]
        '20261101T093000-'
    """
    now = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{now:%Y%m%dT%H%M%S}-{now.microsecond // 1000:03x}{secrets.token_hex(4)[:7]}"


def is_execution_id(text: str) -> bool:
    """Whether `text` has the form of an execution id."""
    return _EXECUTION_ID.fullmatch(text) is not None
