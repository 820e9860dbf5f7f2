"""Runs of Flux workflows: a copy of the workflow and an execution context for each item, which keeps the tasks that completed.

What Flux would write to its database goes to the execution's journal, as what was told to the call: a run that goes on later is
given the completed tasks as events, and Flux does not run those again.
"""

from __future__ import annotations

import asyncio
import copy
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from batchrun.core.errors import InvalidValue
from batchrun.nodes.outside import Pauses, StepFailed, named, node_name, plain
from batchrun.workflows.parts import Parts


class Library(NamedTuple):
    """What runs need of the library.

    Attributes:
        workflow: the class of workflows.
        task: the class of tasks.
        context: `ExecutionContext`.
        event: `ExecutionEvent`.
        kinds: `ExecutionEventType`.
        error: the class of errors that wrap others.
    """

    workflow: Any
    task: Any
    context: Any
    event: Any
    kinds: Any
    error: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is run.

    Attributes:
        workflow: shared by all items, so it is never called itself.
        pauses: the plans of questions; null: nobody can be asked.
        with_tasks: whether to tell of its tasks.
    """

    workflow: Any
    pauses: Pauses | None
    with_tasks: bool


class _Pause(NamedTuple):
    """Where a run waits: the task, its name for people, what is shown."""

    key: str
    name: str
    shown: Any


class _NoneKept(BaseException):
    """Nothing is kept under this key."""


class FluxRun:
    """One run of a workflow for an item.

    Args:
        flux: the library.
        given: what is run.
        value: its input.
        parts: keeps what its tasks gave; null: nothing is kept.
    """

    def __init__(self, flux: Library, given: Given, value: Any, parts: Parts | None) -> None:
        self._flux = flux
        self._given = given
        self._parts = parts
        self._workflow = copy.copy(given.workflow)  # it writes down in itself which run it is in
        self._seen = 0
        self._kept = 0
        self._started: dict[str, datetime] = {}
        workflow = self._workflow
        self._context = flux.context(
            workflow_id=workflow.qualified_name,
            workflow_namespace=workflow.namespace,
            workflow_name=workflow.name,
            input=value,
            execution_id=self._recorded("id", "execution_id", lambda: uuid.uuid4().hex),
            checkpoint=self._keep,
        ).mark_transient()
        self._restore()

    async def run(self) -> Any:
        """Run it to its end on the event loop.

        Raises:
            BaseException: what a task raised, by the same class names; or an exception of the engine.
        """
        while (pause := await self.next()) is not None:
            self._context.start_resuming(await self._asker().run(self._plan(pause), {"output": pause.shown}, pause.key))
        return self.outcome()

    def run_here(self) -> Any:
        """The same in a lane thread."""
        while (pause := asyncio.run(self.next())) is not None:
            self._context.start_resuming(self._asker().run_now(self._plan(pause), {"output": pause.shown}, pause.key))
        return self.outcome()

    async def next(self) -> _Pause | None:
        """Run it until it pauses, or to its end: null."""
        self._context._task_occurrences.clear()  # noqa: SLF001 - a run that goes on calls its tasks from the first one again
        self._context = await self._workflow(self._context)
        if not self._context.is_paused:
            return None
        events = [event for event in self._context.events if event.type in (self._flux.kinds.TASK_PAUSED, self._flux.kinds.WORKFLOW_PAUSED)]
        value = events[-1].value
        task = events[-2].source_id if len(events) > 1 and events[-2].type == self._flux.kinds.TASK_PAUSED else value["name"]
        name = node_name(str(value["name"]), 1)
        shown = plain(value["output"])
        return _Pause(f"{task}".replace("~", ".").replace("/", "."), name, value["name"] if shown is None else shown)

    def outcome(self) -> Any:
        """What it gave, as plain values.

        Raises:
            BaseException: what it failed with.
        """
        context = self._context
        if not context.has_succeeded:
            raise self._failure()
        output = plain(self._stored(context.output))
        return {"output": output, "tasks": self._tasks()} if self._given.with_tasks else output

    def _stored(self, output: Any) -> Any:
        """The output itself, where the workflow has a storage of its own for outputs."""
        storage = self._workflow.output_storage
        return output if storage is None else storage.retrieve(output)

    def _asker(self) -> Parts:
        if self._parts is None:
            raise AssertionError("a run that pauses is given its parts")
        return self._parts

    def _plan(self, pause: _Pause) -> Any:
        if self._given.pauses is None:
            raise AssertionError("a run that pauses is given its questions")
        return self._given.pauses.of(pause.name)

    def _recorded(self, key: str, name: str, make: Any) -> Any:
        return make() if self._parts is None else self._parts.recorded(key, name, make)

    def _restore(self) -> None:
        while self._parts is not None:
            try:
                kept = self._recorded(f"task:{self._kept}", "task", _none_kept)
            except _NoneKept:
                return
            self._kept += 1
            for kind, time, value in (("TASK_STARTED", kept["started"], None), ("TASK_COMPLETED", kept["time"], kept["value"])):
                event = self._flux.event(type=self._flux.kinds[kind], source_id=kept["id"], name=kept["name"], value=value, time=time)
                self._context.events.append(event)
            self._started[kept["id"]] = datetime.fromisoformat(kept["started"])
            self._seen = len(self._context.events)

    def _keep(self, context: Any) -> None:
        """A checkpoint of Flux: keep what has completed since the last one, if it comes back from JSON as it is."""
        while self._seen < len(context.events):
            event = context.events[self._seen]
            self._seen += 1
            if event.type == self._flux.kinds.TASK_STARTED:
                self._started[event.source_id] = event.time
            if event.type == self._flux.kinds.TASK_COMPLETED and (value := _faithful(event.value)) is not None:
                started = self._started.get(event.source_id, event.time)
                fields = {"id": event.source_id, "name": event.name, "value": value}
                fields |= {"started": started.isoformat(), "time": event.time.isoformat()}
                self._recorded(f"task:{self._kept}", "task", lambda fields=fields: fields)
                self._kept += 1

    def _failure(self) -> BaseException:
        """What it failed with, without the errors of the library around it; it names the task that raised it."""
        output = self._context.output
        failed = [event for event in self._context.events if event.type == self._flux.kinds.TASK_FAILED]
        task = next((event.name for event in reversed(failed) if _value(event) is output), None)
        error = output
        while isinstance(error, self._flux.error) and error.inner_exception is not None:
            error = error.inner_exception
        if not isinstance(error, BaseException):
            return StepFailed(f"the workflow ended as {self._context.state.value}")
        return error if task is None else named(error, f"task {task}")

    def _tasks(self) -> list[dict[str, Any]]:
        kinds = self._flux.kinds
        ends = {kinds.TASK_COMPLETED: "completed", kinds.TASK_FAILED: "failed"}
        tasks: dict[str, dict[str, Any]] = {}
        for event in self._context.events:
            if event.type == kinds.TASK_STARTED:
                tasks[event.source_id] = {"name": event.name, "status": "running", "started_at": event.time.isoformat()}
            elif event.type in ends and event.source_id in tasks:
                began = datetime.fromisoformat(tasks[event.source_id]["started_at"])
                duration_ms = round((event.time - began).total_seconds() * 1_000, 3)
                tasks[event.source_id] |= {"status": ends[event.type], "duration_ms": duration_ms}
        return list(tasks.values())


def _none_kept() -> Any:
    raise _NoneKept


def _value(event: Any) -> Any:
    """What is in a reference to something that is stored in the event itself."""
    return getattr(event.value, "metadata", {}).get("value")


def _faithful(reference: Any) -> Any:
    """A stored output as plain values; null: it would not come back as it is, and its task is run again instead."""
    fields = reference.to_dict() if hasattr(reference, "to_dict") else reference
    try:
        return fields if plain(fields) == fields else None
    except InvalidValue:
        return None
