"""What people ask of an execution while it runs: to stop, by a signal, a call or a control file; or to change its limits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from batchrun.core.errors import ExecutionError, JobError
from batchrun.core.executions import Stop
from batchrun.core.items import KeptNode
from batchrun.execution.backing import Dispatching
from batchrun.execution.control import Request
from batchrun.execution.decisions import decided_nodes
from batchrun.execution.prepare import Prepared
from batchrun.execution.record import Record
from batchrun.execution.tuning import shown, tuning
from batchrun.net.shared import tune

_CANCELLED_SECONDS = 1.0  # for async functions to be cancelled in; some refuse to be
_SAME_SIGNAL_SECONDS = 1.0  # `timeout` and some supervisors send each signal to the process and to its group


class Steering:
    """Takes what is asked of one execution to the dispatcher that runs its items.

    Args:
        prepared: the job.
        on_note: is told what is being done, for people.

    Attributes:
        requested: the stop that was asked for; a cancellation takes the place of any other.
        keep: takes decisions about items that wait for a person.
        decided_items: how many it has taken.
    """

    def __init__(self, prepared: Prepared, on_note: Callable[[str], None]) -> None:
        self.requested: Stop | None = None
        self.keep: Callable[[Sequence[KeptNode]], None] = lambda _nodes: None
        self.decided_items = 0
        self._prepared = prepared
        self._on_note = on_note
        self._record: Record | None = None
        self._dispatcher: Dispatching | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # while items run
        self._signalled_at = math.inf
        self._is_told = False  # what another signal would do

    def begin(self, record: Record) -> None:
        """The execution is written down: from here on, a signal stops it rather than aborts it."""
        self._record = record

    @contextmanager
    def of(self, dispatcher: Dispatching) -> Iterator[None]:
        """Let requests, those from before included, reach the dispatcher while it runs the items. On its event loop."""
        self._dispatcher, self._loop = dispatcher, asyncio.get_running_loop()
        self._begin_stop()
        try:
            yield
        finally:
            self._loop = None

    def is_cancelled(self) -> bool:
        """Whether somebody has cancelled it."""
        return self.requested is not None and self.requested.reason == "cancel"

    def refuse_signalled(self) -> None:
        """End what can be done later, once a signal has asked for an end.

        Raises:
            ExecutionError: one has.
        """
        if self.requested is not None and self.requested.reason == "signal":
            raise ExecutionError(self.requested.message)

    def stop(self, cause: Stop) -> None:
        """Stop, from any thread: no more items are started, and calls in flight get the grace period."""
        if self.requested is None or (cause.reason == "cancel" and self.requested.reason != "cancel"):
            self.requested = cause
        self._on_loop(self._begin_stop)

    def on_signal(self, name: str) -> None:
        """The first signal stops the execution; the second one, or one before it has begun, aborts it.

        A terminal that goes away insists on nothing, though it may send its signal more than once.

        Raises:
            KeyboardInterrupt: to abort.
        """
        if self._record is None:
            raise KeyboardInterrupt(name)
        if self._signalled_at == math.inf:
            self._signalled_at = time.monotonic()
            self._stop_by_signal(name)
        elif name == "SIGHUP":
            return
        elif self._is_told or time.monotonic() - self._signalled_at > _SAME_SIGNAL_SECONDS:
            self._abort(name)
            raise KeyboardInterrupt(name)

    def on_request(self, request: Request) -> None:
        """Do what was asked for in a control file; on the event loop while items run, and once more after the end."""
        if request.kind == "tune":
            self._tune(request)
        elif request.kind == "decide":
            self._decide(request)
        elif request.kind == "pause":
            self.stop(Stop("user", f"paused by {request.by}"))
        else:
            self._cancel(request)

    def _abort(self, name: str) -> None:
        """Have the event loop end, whatever runs on it."""
        loop, dispatcher = self._loop, self._dispatcher
        if loop is None or dispatcher is None:
            return

        def interrupt() -> None:
            raise KeyboardInterrupt(name)

        loop.set_exception_handler(lambda _loop, _context: None)  # what is cut off need not be reported
        self._on_loop(dispatcher.abandon)
        self._on_loop(lambda: loop.call_later(_CANCELLED_SECONDS, interrupt))

    def _begin_stop(self) -> None:
        requested, dispatcher = self.requested, self._dispatcher
        if requested is None or dispatcher is None:
            return
        if dispatcher.stop_cause is not None:
            if requested.reason == "cancel":
                dispatcher.stop(requested)  # what worker processes run hears of it as well
            return
        advice = "; once more to abort without a result" if requested.reason == "signal" else ""
        self._is_told = requested.reason == "signal"
        self._on_note(f"{requested.message}: calls in flight have {self._prepared.loaded.run.grace_seconds:g} s to end{advice}")
        dispatcher.stop(requested)

    def _stop_by_signal(self, name: str) -> None:
        dispatcher = self._dispatcher
        is_stopping = self.requested is not None or (dispatcher is not None and dispatcher.stop_cause is not None)
        self.stop(Stop("signal", f"stopped by {name}"))
        if self._record is not None and self._record.status == "completed":
            self._tell(f"{name}: the result is complete, and its publishing ends; once more to abort")
        elif self._loop is None and dispatcher is not None:
            self._tell(f"{name}: all items have ended, the result is being written; once more to abort without it")
        elif is_stopping:
            self._on_loop(lambda: self._tell(f"{name}: it stops already; once more to abort without a result"))

    def _tell(self, text: str) -> None:
        self._is_told = True
        self._on_note(text)

    def _decide(self, request: Request) -> None:
        nodes = decided_nodes(request.settings, self._record.content["total_items"]) if self._record is not None else []
        try:
            self.keep(nodes)
        except ExecutionError as error:  # who has decided finds that it is not in the journal
            self._on_note(f"a decision of {request.by} was not taken up: {error}")
        else:
            self.decided_items += len(nodes)

    def _cancel(self, request: Request) -> None:
        self.stop(Stop("cancel", f"cancelled by {request.by}"))
        record = self._record
        if record is not None and record.content.get("cancel_requested_at") is None:
            with suppress(ExecutionError):  # a full disk does not keep it from ending; the store was told by who asked
                record.update(cancel_requested_at=request.at.isoformat())

    def _tune(self, request: Request) -> None:
        record, dispatcher = self._record, self._dispatcher
        wanted = f"{shown(request.settings)}, asked for by {request.by},"
        if record is None or dispatcher is None or self._loop is None:
            self._on_note(f"{wanted} came too late: all items have ended")
            return
        try:
            change = tuning(record.content["job"], self._prepared.loaded.folder, request.settings)
            record.update(job=change.job)  # before it is done: what a resume would not remember is refused
        except (JobError, ExecutionError) as error:
            self._on_note(f"{wanted} was not taken up: {error}")
            return
        if change.parallelism is not None:
            dispatcher.resize(change.parallelism)
        for name, limits in change.resources.items():
            tune(self._prepared.resources[name], **limits)
        self._on_note(f"{shown(request.settings)}: set by {request.by}")

    def _on_loop(self, action: Callable[[], object]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just been closed: all items have ended
                loop.call_soon_threadsafe(action)
