"""Where functions are called: on the event loop, in threads, in processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from batchrun.config import load_job
from batchrun.config.job import effective_job
from batchrun.core.errors import JobError
from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult
from batchrun.core.job import Batch, Job, NodeOptions, Run, Workflow
from batchrun.core.policies import Match, Retry, RetryRule
from batchrun.engine.hints import ProcessHint
from batchrun.nodes.crossing import packed_call
from batchrun.nodes.python import PythonNode
from batchrun.nodes.worker_main import Start
from batchrun.nodes.workers import WorkerPool
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, outputs
from tests.unit.nodes import placed_functions as functions
from tests.unit.workflow.probe import compiled, problems_of

ROWS = [{"n": n} for n in range(1, 5)]


def node(call: Any, placement: Any = "process", **options: Any) -> PythonNode:
    return PythonNode(**{"id": "f", "call": call, "inputs": {"n": "{{ item.n }}"}, "placement": placement, **options})


async def run(*nodes: NodeOptions, run: Run = ONCE, on_stop: Callable[[Stop], None] = lambda _cause: None) -> list[ItemResult]:
    def look(dispatcher: Any) -> None:
        found.append(dispatcher)

    found: list[Any] = []
    results = await RowRun(nodes=nodes, run=run, on_start=look).results(ROWS)
    if found[0].stop_cause is not None:
        on_stop(found[0].stop_cause)
    return results


@pytest.mark.parametrize(
    ("call", "placement", "is_here", "is_on_loop"),
    [
        (functions.where, "auto", True, False),
        (functions.where, "loop", True, True),
        (functions.where, "thread", True, False),
        (functions.where, "process", False, False),
        (functions.where_async, "auto", True, True),
        (functions.where_async, "loop", True, True),
        (functions.where_async, "thread", True, False),
        (functions.where_async, "process", False, False),
    ],
)
async def test_a_function_is_called_where_the_job_says(call: Any, placement: str, is_here: bool, is_on_loop: bool) -> None:
    """Sync and async functions can be placed anywhere; without a word, the former never block the event loop."""
    found = outputs(await run(node(call, placement)))
    assert [n for _, _, n in found] == [1, 2, 3, 4]
    assert {process == os.getpid() for process, _, _ in found} == {is_here}
    if is_here:
        assert {thread == threading.get_ident() for _, thread, _ in found} == {is_on_loop}


async def test_workers_are_started_when_needed_and_used_again() -> None:
    """Starting Python takes longer than most calls, so that happens once for all items."""
    found = outputs(await run(node(functions.where, workers=1)))
    assert len({process for process, _, _ in found}) == 1
    found = outputs(await run(node(functions.where), run=Run(parallelism=1)))
    assert len({process for process, _, _ in found}) == 1


async def test_arguments_arrive_as_in_a_direct_call() -> None:
    """Positions, names and partials mean the same on the other side."""
    inputs = {"n": "{{ item.n }}", "by": 10}
    assert outputs(await run(node(functions.double, inputs=inputs))) == [10, 20, 30, 40]
    assert outputs(await run(node(partial(functions.double, by=5)))) == [5, 10, 15, 20]


async def test_objects_cross_the_border_between_nodes() -> None:
    """What one process makes, another one is given as it was, not as JSON."""
    flip = PythonNode(id="flip", call=functions.flipped, inputs={"place": "{{ nodes.f.output }}"}, placement="process")
    assert outputs(await run(node(functions.point), flip))[0] == {"x": 1, "y": -1}


async def test_values_that_cannot_be_sent_fail_their_item_and_name_their_type() -> None:
    """An item with such a value ends alone, and its author learns which value it is."""
    results = await run(node(functions.lock))
    assert {result.error.type for result in results if result.error} == {"InvalidValue"}
    assert "an output of type lock cannot be sent to another process" in str(results[0].error)

    first = PythonNode(id="first", call=functions.lock, inputs={"n": "{{ item.n }}"}, when="{{ item.n < 2 }}")
    second = PythonNode(id="second", call=functions.given, inputs={"value": "{{ nodes.first.output }}"}, placement="process")
    results = await RowRun(nodes=[first, second], run=ONCE, recording="summary").results(ROWS)
    assert "the input 'value' of type lock cannot be sent to another process" in str(results[0].error)


async def test_errors_come_back_with_type_message_and_traceback() -> None:
    """A failure looks the same wherever the function ran, also when its exception cannot be sent."""
    results = await run(node(functions.fails))
    errors = [result.error for result in results]
    assert [error.type for error in errors if error] == ["OddError", "StopIteration", "KeyboardInterrupt", "ConnectionError"]
    assert errors[0] is not None
    assert (errors[0].message, errors[0].http_status) == ("code 404", 404)
    assert errors[3] is not None
    assert errors[3].retryable
    assert errors[3].traceback is not None
    assert "placed_functions.py" in errors[3].traceback
    assert "batchrun/nodes" not in errors[3].traceback


async def test_retry_rules_know_errors_of_other_processes_by_name() -> None:
    """A rule for an exception, or for one it derives from, holds wherever that was raised."""
    rules = (RetryRule(match=Match(error_type="LookupError"), action="stop"), RetryRule(match=Match(error_type="OddError"), action="stop"))
    stops: list[Stop] = []
    await run(node(functions.fails), run=Run(retry=Retry(max_attempts=1, rules=rules)), on_stop=stops.append)
    assert [stop.reason for stop in stops] == ["rule"]


async def test_a_call_past_its_deadline_ends_its_worker_and_nothing_else() -> None:
    """What a thread would go on with for ever is over at once, and the next item gets a new worker."""
    results = await run(node(functions.hangs, workers=1, timeout_seconds=0.05))
    assert [result.error.type for result in results if result.error] == ["Timeout"] * 4


async def test_an_item_that_kills_its_worker_fails_and_is_not_tried_again() -> None:
    """It would kill the next worker, too."""
    results = await run(node(functions.dies), run=Run())
    assert [(result.error.type, result.attempts) for result in results if result.error] == [("WorkerCrashed", 1)] * 4
    assert "SIGKILL" in str(results[0].error)


async def test_when_every_call_kills_its_worker_the_execution_pauses() -> None:
    """Starting workers for nothing has an end, and whoever comes back to it reads why."""
    stops: list[Stop] = []
    rows = [{"n": n} for n in range(40)]
    found: list[Any] = []
    results = await RowRun(nodes=[node(functions.dies)], run=Run(parallelism=2), on_start=found.append).results(rows)
    stops = [found[0].stop_cause]
    assert stops[0] is not None
    assert stops[0].status == "paused"
    assert "none has ended well in between" in stops[0].message
    statuses = [result.status for result in results]
    assert statuses.count("failed") == 9


async def test_a_worker_killed_while_it_had_nothing_to_do_costs_no_item() -> None:
    """The memory killer, or a person, may end one at any moment; the next call gets another one."""
    pool = WorkerPool("f", Start("tests.unit.nodes.placed_functions:where", None), 1)
    async with pool.lifespan():
        process, _, _ = await pool.call(packed_call((1,), {}), lambda: None)
        os.kill(process, signal.SIGKILL)
        for thread in threading.enumerate():
            if thread.name == f"batchrun-watch-{process}":
                await asyncio.to_thread(thread.join)
        other, _, n = await pool.call(packed_call((2,), {}), lambda: None)
    assert (n, other != process) == (2, True)


async def test_in_batches_the_one_bad_item_is_found() -> None:
    """A crash is the failure of its batch, which is narrowed down like any other."""
    results = await run(node(functions.doubles, batch=Batch(max_items=4)))
    assert outputs(results) == [2, 4, None, 8]
    assert results[2].error is not None
    assert results[2].error.type == "WorkerCrashed"
    assert "exit code 9" in results[2].error.message


def test_mistakes_are_found_before_the_first_item() -> None:
    """What cannot work in another process is refused with what to do about it."""
    (problem,) = problems_of(node(functions.asks, inputs={"n": 1}))
    assert "a call in another process has no context: remove the parameter 'context', or in: process" in problem
    (problem,) = problems_of(node(lambda n: n, inputs={"n": 1}))
    assert "cannot be sent to another process" in problem
    (problem,) = problems_of(node(functions.double, "thread", inputs={"n": 1}, workers=2))
    assert "is the number of worker processes: say in: process, or remove it" in problem
    (problem,) = problems_of(node(functions.double, inputs={"n": 1}, init={"by": 2}))
    assert "is for a class whose instances can be called" in problem


def test_the_key_in_the_file_is_in() -> None:
    """The word of the job file is no name for a field in Python: they are turned into one another both ways."""
    workflow = {"nodes": [{"id": "f", "type": "python", "call": "m:f", "in": "process", "workers": 3}]}
    loaded = load_job({"dataset": "data.csv", "workflow": workflow})
    (options,) = loaded.workflow.nodes
    assert (getattr(options, "placement", None), getattr(options, "workers", None)) == ("process", 3)
    assert effective_job(loaded)["workflow"]["nodes"][0]["in"] == "process"
    assert load_job(effective_job(loaded)).workflow == loaded.workflow
    in_python = load_job(Job(dataset="data.csv", workflow=Workflow(nodes=(node("m:f", workers=3, inputs={}),))))
    assert in_python.workflow == loaded.workflow


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in": "proces"}, "workflow.nodes[0].in: must be 'auto', 'loop', 'thread' or 'process', got 'proces'"),
        ({"placement": "process"}, "workflow.nodes[0].placement: unknown key placement"),
        ({"in": "process", "workers": 0}, "workflow.nodes[0].workers: must be ≥ 1, got 0"),
    ],
)
def test_wrong_places_are_named_as_they_are_written(options: dict[str, Any], message: str) -> None:
    """Mistakes are reported in the words of the file."""
    workflow = {"nodes": [{"id": "f", "type": "python", "call": "m:f", **options}]}
    with pytest.raises(JobError) as caught:
        load_job({"dataset": "data.csv", "workflow": workflow})
    assert message in str(caught.value)


def test_the_place_has_no_meaning_for_the_result() -> None:
    """An execution can be resumed, and the cache used, with functions placed elsewhere."""
    here, there = (compiled(node(functions.double, place, inputs={"n": 1})).fingerprint for place in ("auto", "process"))
    assert here == there


@pytest.mark.parametrize(
    ("use", "item_seconds", "load", "cores", "is_said"),
    [
        (1.0, 0.005, 1.0, 4, True),
        (1.0, 0.0001, 1.0, 4, False),  # the way to another process would cost more
        (0.3, 0.005, 1.0, 4, False),  # calls wait
        (2.5, 0.005, 1.0, 4, False),  # they let go of the interpreter already
        (1.0, 0.005, 4.0, 4, False),  # other programs use the other cores
        (1.0, 0.005, 0.1, 1, False),
    ],
)
def test_processes_are_hinted_at_when_they_would_pay(use: float, item_seconds: float, load: float, cores: int, is_said: bool) -> None:
    """The hint names the node and the option, comes once, and never where it would be wrong."""
    (step,) = compiled(node(functions.double, "auto", inputs={"n": 1})).steps
    notes: list[str] = []
    hint = ProcessHint(notes.append, cores, lambda: load)
    for _ in range(30):
        hint.saw(0.5, use, item_seconds, [step])
    assert len(notes) == is_said
    assert all("node f keeps one of 4 cores busy" in note and "in: process" in note for note in notes)
