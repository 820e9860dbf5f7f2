"""Run a workflow over a few rows in memory: for tests of nodes and workflows, without files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import anyio

from batchrun.core.errors import ExecutionError
from batchrun.core.events import SentBack
from batchrun.core.executions import Stop
from batchrun.core.items import Item, ItemResult, KeptNode, RestoredItem
from batchrun.core.job import NodeOptions, Resource, Run, Workflow
from batchrun.core.protocols import NodeJournal, OutputCache, Rows
from batchrun.dispatch.dispatcher import Dispatcher
from batchrun.dispatch.neighbours import Rooms
from batchrun.engine.engine import Engine, EngineSettings
from batchrun.engine.item_run import ItemRun
from batchrun.flow.budget import Spending
from batchrun.net.shared import stop_waiting
from batchrun.testing.clock import VirtualLoop
from batchrun.workflows.compiler import Surroundings, compile_workflow


@dataclass(frozen=True, slots=True, kw_only=True)
class RowRun:
    """A workflow and how to run it.

    Attributes:
        nodes: the nodes; or `workflow` for a whole workflow with its output.
        recording: how much of each node execution is kept.
        window: rows loaded at once.
        journal: takes what nodes of rows come to that are not completed.
        restored: where rows go on that were begun before, by their position.
        stale: nodes that were edited since.
        spending: counts calls against a budget.
        cache: keeps outputs of nodes that are cached.
        total_items: of the execution, where the rows are not all of them.
        part_names: takes id and type of each node of a part of a call; the record of the n-th has the position -1 - n.
        on_note: called with lines for people.
        on_sent_back: told of each call that failed and will be made again; from any thread.
        on_start: called with the dispatcher before the first row, for tests that stop it.
        on_open: called with the engine before that, for tests that look at it.
    """

    nodes: Sequence[NodeOptions] = ()
    workflow: Workflow | None = None
    run: Run = field(default_factory=Run)
    vars: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    recording: Literal["full", "summary", "none"] = "full"
    window: int = 1_000
    journal: NodeJournal | None = None
    restored: Mapping[int, RestoredItem] | None = None
    stale: frozenset[str] = frozenset()
    spending: Spending | None = None
    cache: OutputCache | None = None
    total_items: int | None = None
    part_names: list[tuple[str, str]] | None = None
    on_note: Callable[[str], None] = lambda _line: None
    on_sent_back: Callable[[SentBack], None] | None = None
    on_start: Callable[[Dispatcher[ItemRun]], None] | None = None
    on_open: Callable[[Engine], None] | None = None

    async def results(self, rows: Sequence[Mapping[str, Any]], sink: ListSink | None = None) -> list[ItemResult]:
        """Run the rows and return one result each, in their order.

        Example:
            >>> from batchrun.nodes.python import PythonNode
            >>> double = PythonNode(id="double", call=lambda n: n * 2, inputs={"n": "{{ item.n }}"})
            >>> results = anyio.run(RowRun(nodes=[double]).results, [{"n": 1}, {"n": 2}])
            >>> [result.output for result in results]
            [b'2', b'4']
        """
        columns = tuple(dict.fromkeys(column for row in rows for column in row))
        plan = compile_workflow(
            self.workflow or Workflow(nodes=tuple(self.nodes)),
            Surroundings(columns=columns, vars=self.vars, secrets=self.secrets, resources=self.resources, run=self.run),
        )
        sink = sink or ListSink()
        loop = asyncio.get_running_loop()
        items = [Item(index, index, index, dict(row), _NoWindow(), 0) for index, row in enumerate(rows)]

        def stop(cause: Stop) -> None:
            dispatcher.stop(cause)

        async with Engine(plan, self._settings(sink), on_stop=stop, clock=loop.time) as engine:
            if self.on_open is not None:
                self.on_open(engine)
            if isinstance(loop, VirtualLoop):
                loop.wait_for(lambda: engine.is_in_lanes)
            dispatcher: Dispatcher[ItemRun] = Dispatcher(
                engine, Rooms(_ListFeed(items, self.window), sink), self.run, None, self.total_items
            )
            if self.on_start is not None:
                self.on_start(dispatcher)
            await (dispatcher.run_chunks() if plan.is_in_chunks else dispatcher.run_items())
        return sorted(sink.taken, key=lambda result: result.item.ordinal)

    def _settings(self, sink: ListSink) -> EngineSettings:
        return EngineSettings(
            "test",
            self.run,
            self.recording,
            journal=self.journal,
            restored=self.restored.get if self.restored is not None else None,
            stale=self.stale,
            spending=self.spending,
            on_note=self.on_note,
            cache=self.cache,
            part_names=self.part_names,
            on_stopping=partial(stop_waiting, self.resources),
            on_sent_back=self.on_sent_back,
            pack=sink.pack,
        )

    def results_virtually(self, rows: Sequence[Mapping[str, Any]]) -> list[ItemResult]:
        """The same on a virtual clock: for nodes that wait on the event loop, with backoffs and deadlines that take no time."""
        return anyio.run(self.results, rows, backend_options={"loop_factory": VirtualLoop})


class ListSink:
    """Keeps results in a list.

    Attributes:
        taken: the results, in the order they came.
        breaks_after: stops taking results after this many, as a full disk would.
    """

    def __init__(self, breaks_after: int | None = None) -> None:
        self.taken: list[ItemResult] = []
        self.breaks_after = breaks_after

    def pack(self, _results: Sequence[ItemResult]) -> Rows | None:
        """No rows: tests look at the results."""
        return None

    def put_rows(self, _rows: Any) -> None:
        """There are none."""

    @property
    def backlog(self) -> int:
        """Nothing is ever waiting."""
        return 0

    def put(self, results: Sequence[ItemResult]) -> None:
        """Keep results."""
        if self.breaks_after is not None and len(self.taken) >= self.breaks_after:
            raise ExecutionError("the disk is full")
        self.taken += results


class ListJournal:
    """Keeps what nodes come to in a list.

    Attributes:
        entries: what was handed over, in the order it came.
    """

    def __init__(self) -> None:
        self.entries: list[KeptNode] = []

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """Keep entries."""
        self.entries += nodes

    async def checkpoint(self, node: KeptNode) -> None:
        """Keep a checkpoint."""
        self.entries.append(node)

    def restored(self, generation: int = 0) -> dict[int, RestoredItem]:
        """Where each item goes on in a later run: the last entry of each of its nodes counts."""
        items: dict[int, dict[str, KeptNode]] = {}
        for entry in self.entries:
            items.setdefault(entry.ordinal, {})[entry.node_id] = entry
        return {
            ordinal: RestoredItem(max(node.item_attempts for node in nodes.values()), generation, tuple(nodes.values()), {})
            for ordinal, nodes in items.items()
        }


class _ListFeed:
    """Hands out a list of items."""

    def __init__(self, items: list[Item], window: int) -> None:
        self.loaded = 0
        self._items = items
        self._window = window

    async def next(self) -> list[Item] | None:
        window = self._items[self.loaded : self.loaded + self._window]
        self.loaded += len(window)
        return window or None

    def close(self) -> None:
        self._items = []


class _NoWindow:
    """Rows in memory have no source columns to copy."""

    columns = None
