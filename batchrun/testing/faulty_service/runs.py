"""Runs of remote workflow systems, which go as their scripts tell."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from batchrun.testing.faulty_service.answers import Dropped, Refused
from batchrun.testing.faulty_service.book import found

_WORD = re.compile(r"script:(\w+)")
ENDS = frozenset({"completed", "failed", "cancelled", "rejected", "waiting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How a run goes.

    Attributes:
        states: what its first polls tell, one each; words no system knows are welcome.
        ends: what they tell after that: `completed`, `failed`, `cancelled`, `rejected`, `waiting` (for a person), or any other
            word, which is told for ever; `never`: it keeps running.
        run_seconds: it does not end before.
        output: of a completed run; null: `{"echo": <its input>}`.
        error: of a failed run.
        loses_submit: the run starts, but the connection of the submit breaks without an answer.
        poll_errors: so many polls are answered `poll_error_status` before the first that works.
        poll_error_status: with what.
        events: `yes`; `absent`: 404 on the event stream; `early`: the stream ends before the run does.
        ignores_cancel: a cancel is accepted and the run goes on.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    states: tuple[str, ...] = ("running",)
    ends: str = "completed"
    run_seconds: float = 0.0
    output: Any = None
    error: str = "the run failed as its script says"
    loses_submit: bool = False
    poll_errors: int = 0
    poll_error_status: int = 503
    events: Literal["yes", "absent", "early"] = "yes"
    ignores_cancel: bool = False


SCRIPTS: Mapping[str, Script] = {
    **{end: Script(ends=end) for end in ("completed", "failed", "cancelled", "rejected", "waiting", "never")},
    "unknown": Script(states=("archiving", "archiving")),
    "lost": Script(loses_submit=True),
    "broken_polls": Script(poll_errors=2),
}


@dataclass(slots=True, kw_only=True)
class Run:
    """One run and what was seen of it.

    Attributes:
        system: whose; `id`, `workflow`, `version`, `input` as submitted, `files` by the name of their field.
        item: what it belongs to; `submits`: how many runs were submitted for this item so far, this one included.
        polls, streams, cancels, resumes: how often it was asked for, followed, cancelled and resumed.
        is_cancelled: a cancel took effect.
        created_seconds: on the monotonic clock; `created_at` the same as ISO text.
    """

    system: str
    id: str
    workflow: str
    version: str | None
    input: Any
    script: Script
    item: str
    submits: int
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    polls: int = 0
    streams: int = 0
    cancels: int = 0
    resumes: int = 0
    is_cancelled: bool = False
    step: int = -1
    created_seconds: float = field(default_factory=time.monotonic)
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))

    @property
    def state(self) -> str:
        """What it is now, in the words of `Script`."""
        if self.is_cancelled:
            return "cancelled"
        step = max(self.step, 0)  # the answer to its submit tells what the first poll will
        if step < len(self.script.states):
            return self.script.states[step]
        if self.script.ends == "never" or time.monotonic() - self.created_seconds < self.script.run_seconds:
            return "running"
        return "completed" if self.script.ends == "waiting" and self.resumes else self.script.ends

    @property
    def is_finished(self) -> bool:
        """Whether it will never change again by itself."""
        return self.state in ENDS - {"waiting"}

    @property
    def output(self) -> Any:
        """Of a completed run, else null."""
        if self.state != "completed":
            return None
        return {"echo": self.input} if self.script.output is None else self.script.output

    @property
    def error(self) -> str | None:
        """Of a failed run, else null."""
        return self.script.error if self.state == "failed" else None

    def skip_to_end(self) -> None:
        """Tell the end from now on, if its time has come."""
        self.step = len(self.script.states)

    def cancel(self) -> bool:
        """Cancel it; False when it has ended already or does not listen."""
        self.cancels += 1
        if self.is_finished or self.script.ignores_cancel:
            return False
        self.is_cancelled = True
        return True

    def as_json(self) -> dict[str, Any]:
        """What was seen of it."""
        names = ("system", "id", "workflow", "version", "item", "submits", "polls", "streams", "cancels", "resumes", "state", "input")
        return {**{name: getattr(self, name) for name in names}, "files": sorted(self.files)}


class Runs:
    """All runs of a service; `script` tells how those go that do not say themselves."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}

    def submit(self, system: str, workflow: str, value: Any, **more: Any) -> Run:
        """Start a run; `more` are fields of `Run` (`item`, `version`, `files`).

        Raises:
            Refused: 400, its input names a script that is none.
        """
        item = more.pop("item", None) or _item_of(value)
        with self._lock:
            number = len(self._runs) + 1
            submits = 1 + sum(run.system == system and run.item == item for run in self._runs.values())
            run = Run(
                system=system, id=f"run_{number}", workflow=workflow, version=more.pop("version", None), input=value,
                script=script_of(value, self.script), item=item, submits=submits, **more,
            )  # fmt: skip
            self._runs[run.id] = run
        return run

    def answer_of(self, run: Run) -> Run:
        """The run whose submit is to be answered.

        Raises:
            Dropped: its script loses the answer.
        """
        if run.script.loses_submit and run.submits == 1:
            raise Dropped
        return run

    def get(self, system: str, run_id: str) -> Run:
        """A run of a system.

        Raises:
            Refused: 404, there is none.
        """
        run = self._runs.get(run_id)
        if run is None or run.system != system:
            raise Refused(404, f"no such run: {run_id}")
        return run

    def poll(self, system: str, run_id: str) -> Run:
        """A run in the state that this poll tells.

        Raises:
            Refused: 404, there is none, or the status its script has for the first polls.
        """
        run = self.get(system, run_id)
        run.polls += 1
        if run.polls <= run.script.poll_errors:
            raise Refused(run.script.poll_error_status, "the service stumbled")
        run.step += 1
        return run

    async def follow(self, run: Run) -> None:
        """Wait until a run has ended or waits for a person, however often it was asked for."""
        run.skip_to_end()
        await until(lambda: run.is_finished or run.state == run.script.ends)

    def seen(self, system: str | None = None) -> tuple[Run, ...]:
        """The runs of a system, or all, in order of their submits."""
        with self._lock:
            return tuple(run for run in self._runs.values() if system in {None, run.system})


async def until(is_so: Callable[[], bool], *, seconds: float = math.inf) -> None:
    """Wait until something is so, or so many seconds have passed."""
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:  # noqa: ASYNC110 - time alone may end a run, which no event tells
        await asyncio.sleep(0.01)


def script_of(value: Any, default: Script) -> Script:
    """The script an input asks for, else the default.

    Raises:
        Refused: 400, it asks for one that does not exist.
    """
    asked = found(value, "script")
    if isinstance(asked, Mapping):
        try:
            return TypeAdapter(Script).validate_python(asked)
        except ValidationError as error:
            raise Refused(400, f"script: {error}") from None
    if asked is None:
        match = _WORD.search(json.dumps(value, default=str))
        asked = match and match[1]
    if asked is None:
        return default
    if asked not in SCRIPTS:
        raise Refused(400, f"script: no script is called {asked!r}; there are {', '.join(SCRIPTS)}")
    return SCRIPTS[asked]


def _item_of(value: Any) -> str:
    item = found(value, "item")
    return str(item) if item is not None else json.dumps(value, sort_keys=True, default=str)
