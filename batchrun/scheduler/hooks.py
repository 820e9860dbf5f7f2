"""Telling people of failed firings: a command, a webhook. Nothing here raises; what became of each is written down."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from batchrun.core.schedules import Firing, Told

COMMAND_SECONDS = 60.0
"""How long a command may take."""

WEBHOOK_SECONDS = 10.0
"""How long an answer may take."""

_WAITS_SECONDS = (1.0, 5.0)  # before the second and the third try
_MOST_CHARS = 500
_MOST_BYTES = 4_096


def details(firing: Firing, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is told of a failed firing, as values for JSON.

    Args:
        firing: it.
        record: the execution.json of its execution; null: there is none.
    """
    told = {name: value for name, value in firing.plain().items() if name not in ("id", "told")}
    totals = (record or {}).get("totals") or {}
    items = {name: totals[name] for name in ("total_items", "completed_items", "failed_items") if name in totals}
    return {**told, "trigger": firing.schedule.trigger, "timezone": firing.schedule.timezone, **items}


def tell(firing: Firing, about: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep) -> list[Told]:
    """Run the command and call the webhook of the schedule, if it has them.

    Args:
        firing: what failed.
        about: its details.
        sleep: waits so many seconds before another try.
    """
    told = []
    if firing.schedule.on_failure_command is not None:
        told.append(_run(firing.schedule.on_failure_command, about))
    if firing.schedule.on_failure_webhook is not None:
        told.append(_post(firing.schedule.on_failure_webhook, about, sleep))
    return told


def _run(command: str, about: Mapping[str, Any]) -> Told:
    """No shell reads the command, and what failed is no part of it: it comes in the environment and as JSON on standard input."""
    names = ("schedule", "job", "verb", "due_at", "status", "error", "execution_id", "folder")
    environment = {f"BATCHRUN_{name.upper()}": str(about[name] or "").replace("\0", "") for name in names}
    # Files, not pipes: whoever the command leaves behind may keep them open.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        given.write(json.dumps(about).encode())
        given.seek(0)
        try:
            done = subprocess.run(  # noqa: S603 - the command that the schedule names
                shlex.split(command),
                stdin=given,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                timeout=COMMAND_SECONDS,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Told(hook="command", has_succeeded=False, detail=f"ended by force after {COMMAND_SECONDS:g} seconds")
        except (OSError, ValueError) as error:
            return Told(hook="command", has_succeeded=False, detail=_short(f"cannot be started: {error}"))
        said.seek(0, os.SEEK_END)
        said.seek(max(0, said.tell() - _MOST_BYTES))
        output = said.read().decode(errors="replace").strip()
    detail = f"ended with code {done.returncode}" + (f": {output}" if output and done.returncode else "")
    return Told(hook="command", has_succeeded=done.returncode == 0, detail=_short(detail))


def _post(address: str, about: Mapping[str, Any], sleep: Callable[[float], None]) -> Told:
    detail = ""
    for attempt, wait_seconds in enumerate((0.0, *_WAITS_SECONDS), 1):
        if wait_seconds:
            sleep(wait_seconds)
        try:
            answer = httpx.post(address, json=dict(about), timeout=WEBHOOK_SECONDS, follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            detail = _short(f"no answer: {type(error).__name__}: {error}".replace(address, "the address"))
            continue
        detail = f"answered {answer.status_code}"
        if answer.is_success:
            return Told(hook="webhook", has_succeeded=True, detail=detail, attempts=attempt)
        if answer.status_code != httpx.codes.TOO_MANY_REQUESTS and not answer.is_server_error:
            break
    return Told(hook="webhook", has_succeeded=False, detail=detail, attempts=attempt)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…"
