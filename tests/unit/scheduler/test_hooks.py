"""Commands and webhooks after a failed firing, with real processes and a real server."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.checks import InvalidFields
from batchrun.core.schedules import Firing, Schedule
from batchrun.scheduler.hooks import details, tell
from batchrun.testing.loopback import Answer, LoopbackServer, json_answer

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOSTILE = "$(touch broken) `touch broken`; touch broken\n\0 \u202e"


def failed(**hooks: Any) -> Firing:
    schedule = Schedule(name="nightly", job="job.yaml", cron="@daily", **hooks)
    return Firing(
        id=1, schedule=schedule, due_at=NOON, claimed_at=NOON, status="failed", error=HOSTILE, execution_id="e1", folder="runs/e1"
    )


def never(_seconds: float) -> None:
    raise AssertionError


def test_a_command_gets_details_that_no_shell_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error message with backticks in it runs nothing: it comes as JSON on the input and in the environment."""
    monkeypatch.chdir(tmp_path)
    program = "import os, sys; open('told', 'w').write(sys.stdin.read()); print(os.environ['BATCHRUN_ERROR']); print(sys.argv[1:])"
    firing = failed(on_failure_command=f"{sys.executable} -c {shlex.quote(program)} 'two words' '$HOME;'")
    about = details(firing, {"totals": {"total_items": 10, "failed_items": 4}})
    (told,) = tell(firing, about, never)
    assert told.has_succeeded and told.hook == "command"
    given = json.loads((tmp_path / "told").read_text())
    assert given == about and given["error"] == HOSTILE and given["trigger"] == "schedule nightly" and given["failed_items"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["told"]


def test_a_command_that_fails_is_written_down() -> None:
    """Who looks why nobody was told finds the end of what the command said."""
    program = "import sys; print('x' * 100_000); print('no route to the pager'); sys.exit(7)"
    firing = failed(on_failure_command=f"{sys.executable} -c {shlex.quote(program)}")
    (told,) = tell(firing, details(firing, None), never)
    assert not told.has_succeeded and told.detail.startswith("ended with code 7: ") and len(told.detail) <= 501
    firing = failed(on_failure_command="/no/such/program")
    (told,) = tell(firing, details(firing, None), never)
    assert not told.has_succeeded and told.detail.startswith("cannot be started: ")


def test_a_webhook_is_tried_three_times() -> None:
    """A service that restarts is told all the same."""
    waits: list[float] = []
    with LoopbackServer({"/hook": [Answer(status=503), Answer(raw=b""), json_answer({})]}) as server:
        firing = failed(on_failure_webhook=f"{server.url}/hook")
        (told,) = tell(firing, details(firing, None), waits.append)
    assert (told.has_succeeded, told.attempts, told.detail, waits) == (True, 3, "answered 200", [1.0, 5.0])
    assert json.loads(server.requests[0].body)["schedule"] == "nightly"


@pytest.mark.parametrize(("status", "attempts"), [(500, 3), (429, 3), (404, 1), (302, 1)])
def test_a_webhook_that_refuses_is_written_down(status: int, attempts: int) -> None:
    """What cannot get better is not tried again, and nothing is sent to where an answer points."""
    answer = Answer(status=status, headers={"Location": "/elsewhere"})
    with LoopbackServer({"/hook": answer, "/elsewhere": json_answer({})}) as server:
        firing = failed(on_failure_webhook=f"{server.url}/hook")
        (told,) = tell(firing, details(firing, None), lambda _seconds: None)
    assert (told.has_succeeded, told.attempts, told.detail) == (False, attempts, f"answered {status}")
    assert len(server.requests) == attempts


def test_the_secret_of_a_webhook_is_not_shown() -> None:
    """The path of such an address is all that keeps others from using it."""
    firing = failed(on_failure_webhook="http://user:word@127.0.0.1:1/services/T0/canary?token=canary")
    (told,) = tell(firing, details(firing, None), lambda _seconds: None)
    assert not told.has_succeeded and told.attempts == 3
    assert "canary" not in told.detail + json.dumps(firing.schedule.plain()) and "word" not in json.dumps(firing.schedule.plain())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"on_failure_command": "tell 'me"}, "on_failure_command: cannot be split"),
        ({"on_failure_command": " "}, "names no program"),
        ({"on_failure_webhook": "ftp://host/x"}, "on_failure_webhook: must be an address"),
        ({"on_failure_webhook": "https:///x"}, "must be an address"),
        ({"name": "../x"}, "cannot name a schedule"),
        ({"overlap": "sometimes"}, "overlap: must be skip or queue or allow, got 'sometimes'"),
        ({"jitter_seconds": -1}, "jitter_seconds: must be ≥ 0"),
        ({"max_age_seconds": 0}, "max_age_seconds: must be > 0"),
    ],
)
def test_fields_of_a_schedule_are_checked(fields: dict[str, Any], said: str) -> None:
    """A mistake is found when the schedule is made."""
    with pytest.raises(InvalidFields, match=said):
        Schedule(**{"name": "nightly", "job": "job.yaml", "cron": "@daily", **fields})
