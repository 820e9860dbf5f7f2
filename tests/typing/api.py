"""The public API as type checkers see it. Never run, only checked: what an editor shows is part of the promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict, assert_type

import polars as pl

import batchrun
from batchrun.client import ExecutionView
from batchrun.core.executions import ShownStatus


class Ticket(TypedDict):
    title: str


class Label(TypedDict):
    label: str


def classify(item: Ticket) -> Label:
    return {"label": item["title"]}


async def classify_later(item: dict[str, Any]) -> Label:
    return {"label": item["title"]}


def jobs() -> None:
    job = batchrun.Job(
        dataset=batchrun.Dataset(path="tickets.parquet", id="ticket_id", limit=100),
        workflow=classify,
        parallelism=50,
        vars={"model": "small"},
        resources={"api": batchrun.Resource(base_url="http://127.0.0.1:8080", max_concurrency=8)},
        run=batchrun.Run(
            retry=batchrun.Retry(
                max_attempts=5,
                backoff=batchrun.Backoff(initial_seconds=1),
                rules=(batchrun.RetryRule(match=batchrun.Match(http_status=(400,)), action="fail"),),
            ),
            failure_policy=batchrun.FailurePolicy(max_failure_ratio=0.05),
        ),
        output=batchrun.Output(export=("csv",), keep=("priority",)),
    )
    assert_type(job, batchrun.Job)
    assert_type(job.name, str | None)
    assert_type(job.workflow, batchrun.Workflow | str | Callable[..., Any])
    batchrun.Job(dataset=pl.DataFrame({"a": [1]}), workflow="my_project.tickets:classify")

    batchrun.Job(dataset="x.csv")  # type: ignore[call-arg]  # a job has a workflow
    batchrun.Job("x.csv", classify)  # type: ignore[call-arg]  # only by name
    batchrun.Job(dataset="x.csv", workflow=classify, parallelism="50")  # type: ignore[arg-type]
    batchrun.RetryRule(match=batchrun.Match(http_status=(400,)), action="give up")  # type: ignore[arg-type]
    job.parallelism = 5  # type: ignore[misc]  # jobs do not change


def executions(job: batchrun.Job) -> None:
    assert_type(batchrun.execute(job), batchrun.Execution)
    assert_type(batchrun.execute(Path("job.yaml"), ["run.parallelism=64"]), batchrun.Execution)
    execution = batchrun.execute("job.yaml", overrides={"run.parallelism": 64, "dataset.limit": None}, quiet=True)
    assert_type(execution.id, str)
    assert_type(execution.folder, Path)
    assert_type(execution.status, ShownStatus)
    assert_type(execution.error, str | None)
    assert_type(execution.stop_reason, str | None)
    assert_type(execution.has_succeeded, bool)
    assert_type(execution.is_paused, bool)
    assert_type(execution.duration_seconds, float)
    assert_type(execution.progress, batchrun.Progress)
    assert_type(execution.progress.total_items, int)
    assert_type(execution.progress.processed_items, int)
    assert_type(execution.progress.remaining_seconds, float | None)
    assert_type(execution.results_frame(), pl.LazyFrame)
    if execution.totals is not None:
        assert_type(execution.totals.total_items, int)

    batchrun.execute(3)  # type: ignore[arg-type]
    batchrun.execute("job.yaml", {}, True)  # type: ignore[call-arg]  # quiet only by name
    execution.status = "completed"  # type: ignore[misc]  # told, not set
    execution.results = None  # type: ignore[misc]


def maps(frame: pl.DataFrame) -> None:
    assert_type(batchrun.map(classify, frame), batchrun.Execution)
    assert_type(batchrun.map(classify_later, "tickets.parquet", parallelism=50, quiet=True), batchrun.Execution)
    assert_type(batchrun.map(str.upper, batchrun.Dataset(path="x.csv"), output=batchrun.Output(keep=("name",))), batchrun.Execution)

    batchrun.map("my_project.tickets:classify", frame)  # type: ignore[arg-type]  # a function, not its name


def errors(job: batchrun.Job) -> None:
    try:
        batchrun.execute(job)
    except batchrun.JobError as error:
        assert_type([problem.message for problem in error.problems], list[str])
        assert_type([problem.location for problem in error.problems], list[str | None])
    except batchrun.ExecutionError as error:
        assert_type(error, batchrun.ExecutionError)
    except batchrun.BatchrunError as error:
        assert_type(error, batchrun.BatchrunError)


class OwnNode(batchrun.NodeOptions):
    """Packages add node types by deriving from this class."""


def names() -> None:
    assert_type(batchrun.__version__, str)
    assert_type(batchrun.NodeError("x").retryable, bool)
    assert_type(batchrun.NodeError("x").http_status, int | None)


def resumed() -> None:
    assert_type(batchrun.resume("runs/20261101T093000-0a1b2c3d4e", {"run.budget.max_calls": 100}), batchrun.Execution | None)
    batchrun.Run(budget=batchrun.Budget(max_calls=10, max_cost=1.5), timeout_seconds=60, durable=False)


def refreshes() -> None:
    assert_type(batchrun.plan_refresh("job.yaml").edited_nodes, tuple[str, ...])
    assert_type(batchrun.refresh("job.yaml", {"run.parallelism": 4}, quiet=True, on_plan=lambda plan: None), batchrun.Execution)


def clients() -> None:
    with batchrun.Client(home="lists", runs=Path("runs")) as client:
        execution = client.submit("job.yaml", {"run.parallelism": 64})
        assert_type(execution, batchrun.Execution)
        assert_type(client.refresh("job.yaml"), batchrun.Execution)
        assert_type(execution.wait(interval_seconds=2, timeout_seconds=300, adaptive=True), ShownStatus)
        assert_type(execution.refresh_status(), ShownStatus)
        assert_type(execution.cancel(), Literal["requested", "done", "nothing"])
        assert_type(execution.rerun(dataset_version="original", outputs={"clean": "x"}), batchrun.Execution)
        execution.retry(where="error.type = 'Timeout'", from_start=True)
        execution.resume(["run.parallelism=4"], accept_changes=True)
        execution.tune({"run.parallelism": 4})
        assert_type(client.executions.get("latest"), batchrun.Execution)
        found = client.executions.list(job="triage", status=["failed", "cancelled"], created_after="now()-7d", limit=50)
        assert_type(found, list[batchrun.Execution])

        execution.rerun(dataset_version="newest")  # type: ignore[arg-type]
        execution.wait(2, 300)  # type: ignore[call-arg]  # only by name


async def async_clients() -> None:
    async with batchrun.AsyncClient() as client:
        execution = await client.submit("job.yaml")
        assert_type(execution, batchrun.AsyncExecution)
        assert_type(await execution.wait(timeout_seconds=300), ShownStatus)
        assert_type(await execution.refresh_status(), ShownStatus)
        assert_type(await execution.pause(), Literal["requested", "done", "nothing"])
        assert_type(await execution.rerun(), batchrun.AsyncExecution)
        assert_type(await client.refresh("job.yaml"), batchrun.AsyncExecution)
        assert_type(await client.executions.get(Path("runs/x")), batchrun.AsyncExecution)
        assert_type(await client.executions.list(status="running"), list[batchrun.AsyncExecution])
        assert_type(execution.progress, batchrun.Progress)
        view: ExecutionView = execution
        assert_type(view.status, ShownStatus)


async def transcribe(url: str, context: batchrun.Context) -> str:
    assert_type(context.call_key, str)
    await context.checkpoint({"url": url})
    context.add_usage(input_tokens=10, cost=0.5)
    return url


def listening() -> None:
    def plain(event: batchrun.ItemEnded) -> None:
        assert_type(event.source_item_id, Any)
        assert_type(event.attempts, int)

    async def later(event: batchrun.ExecutionEnded) -> None:
        assert_type(event.progress, batchrun.Progress)

    batchrun.execute("job.yaml", on_event=plain)
    batchrun.resume("runs/1", on_event=[plain, later, batchrun.Prometheus(port=0), batchrun.OpenTelemetry()])
    batchrun.map(classify, "tickets.parquet", on_event=batchrun.Prometheus())


@batchrun.node
async def fetch(url: str, size: int = 1) -> Label:
    return {"label": url * size}


@batchrun.node(retry={"max_attempts": 3}, timeout_seconds=10)
async def weigh(label: Label, context: batchrun.Context | None = None) -> float:
    return len(label["label"])


@batchrun.node
def double(number: float) -> float:
    return 2 * number


@batchrun.workflow
async def triage(item: Ticket) -> Label:
    label = await fetch(item["title"])
    assert_type(label, Label)
    assert_type(await weigh(label), float)
    assert_type(await weigh.with_options(name="again", cache=True)(label), float)
    assert_type(await batchrun.gather(fetch("a"), weigh(label), limit=2), list[Any])
    await batchrun.pause("check", output=label)
    assert_type(batchrun.random(), float)
    await fetch(3)  # type: ignore[arg-type]
    await fetch("a", sise=3)  # type: ignore[call-arg]
    await double(3)  # type: ignore[misc]  # a checker sees the function as it is: in async workflows, write async nodes
    return label


@batchrun.workflow(name="doubled", max_output_bytes=100)
def doubled(item: dict[str, float]) -> float:
    assert_type(double(item["a"]), float)
    return double(double(3))


async def flows(frame: pl.DataFrame, ticket: Ticket) -> None:
    batchrun.Job(dataset=frame, workflow=triage)
    assert_type(batchrun.map(doubled, frame), batchrun.Execution)
    assert_type(batchrun.plan("job.yaml", sample=50), batchrun.JobPlan)
    assert_type(batchrun.open("latest").results_frame(with_source=True), pl.LazyFrame)
    assert_type(batchrun.diff("latest", batchrun.open("latest")).counts.changed_items, int)
    assert_type(await triage(ticket), Label)
    assert_type(doubled({"a": 1}), float)
    await triage("a")  # type: ignore[arg-type]
