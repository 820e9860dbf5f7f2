"""The job file, word for word.

Each dataclass is one mapping of the YAML file, each field one key; the docstring under a field is its description in
the JSON Schema and in the reference page. All durations are in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from batchrun.core.checks import above, at_least, problem, ratio, refuse
from batchrun.core.policies import Budget, FailurePolicy, Retry

NODE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A random part of the items, the same one for the same seed."""

    fraction: float | None = None
    """Share of the items to keep, 0 to 1."""
    n: int | None = None
    """Number of items to keep."""
    seed: int = 0
    """Another seed gives another sample."""

    def __post_init__(self) -> None:
        refuse(ratio(fraction=self.fraction), at_least(0, n=self.n))
        if (self.fraction is None) == (self.n is None):
            raise ValueError("give either fraction or n")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFormat:
    """How CSV files are written."""

    delimiter: str = ","
    """One character between cells."""
    encoding: str = "utf-8"
    """Any encoding Python knows, for example latin-1 or utf-16."""
    quote: str | None = '"'
    """One character around cells; null when cells are never quoted."""
    header: bool = True
    """Whether the first line names the columns; without it they are column_0, column_1, …"""
    null_values: tuple[str, ...] = ("",)
    """Cell texts that mean null."""

    def __post_init__(self) -> None:
        characters = {"delimiter": self.delimiter, "quote": self.quote}
        wrong = {name: value for name, value in characters.items() if value is not None and len(value.encode()) != 1}
        refuse(*(problem(name, f"must be one ASCII character, got {value!r}") for name, value in wrong.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What is read, and which rows of it."""

    path: str
    """A file, a folder, a glob or a hive-partitioned tree; relative to the job file."""
    format: Literal["parquet", "csv", "ndjson", "arrow"] | None = None
    """The file format; null: from the file names."""
    id: str | None = None
    """The column that names each row; unique and never null. Null: the row's position."""
    input_field: str | None = None
    """The column that `{{ input }}` is; null: the whole item."""
    filter: str | None = None
    """A SQL WHERE expression over the columns."""
    with_columns: dict[str, str] = field(default_factory=dict)
    """New columns, each a SQL expression, computed before the filter."""
    columns: tuple[str, ...] | None = None
    """The columns to read; null: all."""
    schema: dict[str, str] = field(default_factory=dict)
    """Column types that replace what the file says or what is guessed: string, int64, float64, bool, date, …"""
    limit: int | None = None
    """The most items to read, after filter and sample."""
    sample: Sample | None = None
    """A random part of the rows that pass the filter."""
    csv: CsvFormat = CsvFormat()
    """How CSV files are written."""
    on_bad_rows: Literal["refuse", "reject"] = "refuse"
    """CSV rows that do not parse: refuse the job, or write them to rejects.parquet and go on."""

    def __post_init__(self) -> None:
        refuse(at_least(0, limit=self.limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A named service with settings and a limit shared by all nodes that use it."""

    base_url: str
    """What relative paths of requests are appended to."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers sent with every request. The whole job is stored with its results, so keep access keys out of it."""
    max_concurrency: int | None = None
    """The most calls at any instant; null: no limit beyond `run.parallelism`."""

    def __post_init__(self) -> None:
        refuse(at_least(1, max_concurrency=self.max_concurrency))


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultOnFailure:
    """Go on with a fixed value when the node fails."""

    default: Any
    """The value that takes the place of the node's output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackOnFailure:
    """Run another node in its place when the node fails."""

    fallback: str
    """The id of that node. It runs for no other items, and its output takes the place of the failed node's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Calls of many items to one node, made as one call."""

    max_items: int = 64
    """The most items in one call."""
    max_wait_ms: float = 20.0
    """How long an item waits for others."""
    isolate: bool = True
    """When a call fails, find the items that make it fail, by halving; false: all items of the call fail."""

    def __post_init__(self) -> None:
        refuse(at_least(1, max_items=self.max_items), at_least(0, max_wait_ms=self.max_wait_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What every node of a workflow can say. Each node type adds its own keys."""

    type: str
    """Which kind of node this is."""
    id: str
    """Letters, digits and underscores; names the node in references and results."""
    label: str | None = None
    """A name for people."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """Values and templates handed to the node by name."""
    needs: tuple[str, ...] = ()
    """Nodes that must end first, besides those that are referred to."""
    when: str | None = None
    """A template; the node is skipped for items where it is false."""
    timeout_seconds: float | None = None
    """Deadline of one attempt."""
    retry: Retry | None = None
    """Replaces run.retry for this node; its rules are asked first."""
    on_failure: Literal["stop", "continue"] | DefaultOnFailure | FallbackOnFailure = "stop"
    """When the node fails: stop the item, continue with null or with a default, or run another node in its place."""
    cache: bool = False
    """Keep outputs on the disk, and take them from there when the same node is given the same inputs again, in any execution."""
    dedupe: bool = False
    """Make one call for items that give the node the same inputs at the same time."""
    batch: Batch | None = None
    """Make one call for many items; null: one for each."""

    def __post_init__(self) -> None:
        rule = f"must be letters, digits and underscores, not starting with a digit; got {self.id!r}"
        refuse(above(0, timeout_seconds=self.timeout_seconds), problem("id", None if NODE_ID.fullmatch(self.id) else rule))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """What is done with each item: nodes that refer to one another."""

    nodes: tuple[NodeOptions, ...]
    """At least one; the order does not matter, references decide."""
    output: Any = None
    """Template of the item's output; null: the output of the only last node, else `{node id: output}` of the last nodes."""
    output_schema: dict[str, Any] | list[Any] | str | None = None
    """Type of the output column: `{label: string, score: float64}`; null: from the annotation, else JSON text."""

    def __post_init__(self) -> None:
        refuse(problem("nodes", None if self.nodes else "must have at least one node"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the items are run."""

    parallelism: int = 16
    """Items worked on at once."""
    max_open_items: int | None = None
    """Items held at all, those that back off or wait in a batch included; null: 4 × parallelism, at least two of the largest batches."""
    item_timeout_seconds: float | None = 600.0
    """Deadline of one item, all attempts and backoffs included, time spent throttled excluded; null: none."""
    max_parallel_nodes: int | None = None
    """The most nodes of one item that wait at the same time; null: all that can."""
    max_throttled_seconds: float | None = None
    """How long one item may be put off by throttling services before it fails; null: without limit."""
    grace_seconds: float = 10.0
    """How long calls in flight may go on once the execution is told to stop."""
    retry: Retry = Retry()
    """What happens to failed node calls."""
    failure_policy: FailurePolicy = FailurePolicy()
    """When to stop because too much fails."""
    budget: Budget = Budget()
    """When to pause because too much was spent."""
    timeout_seconds: float | None = None
    """How long the execution may run, over all its resumes, before it is paused; null: without limit."""
    durable: bool = True
    """Keep a journal, so that a crash costs only the calls in flight; false: a crash costs the whole run."""

    def __post_init__(self) -> None:
        too_few = self.max_open_items is not None and self.max_open_items < self.parallelism
        refuse(
            at_least(1, parallelism=self.parallelism, max_parallel_nodes=self.max_parallel_nodes),
            problem("max_open_items", f"must be ≥ parallelism ({self.parallelism}), got {self.max_open_items}" if too_few else None),
            above(0, item_timeout_seconds=self.item_timeout_seconds, timeout_seconds=self.timeout_seconds),
            at_least(0, max_throttled_seconds=self.max_throttled_seconds, grace_seconds=self.grace_seconds),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the result goes and what is in it."""

    path: str = "runs"
    """Folder that gets one folder per execution; relative to the job file."""
    export: tuple[Literal["csv", "ndjson", "arrow"], ...] = ()
    """Copies of the result in other formats, beside results.parquet."""
    keep: tuple[str, ...] = ()
    """Source columns copied into the result."""
    node_executions: Literal["full", "summary", "none"] = "full"
    """full: with inputs and outputs; summary: status, attempts and times; none: no node records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A dataset, a workflow, and how to run the one through the other.

    In Python, `dataset` may also be a path or a data frame, and `workflow` a plain function of one item.

    Example:
        >>> job = Job(dataset="tickets.parquet", workflow="my_project.tickets:triage", parallelism=50)
    """

    dataset: Dataset | str | Any
    """What is read; a plain string is its path."""
    workflow: Workflow | str | Callable[..., Any]
    """What is done with each item; a plain string is one `module:function` that takes the item."""
    name: str | None = None
    """Names the job in lists and results; null: the name of the job file or of the function."""
    parallelism: int | None = None
    """Short for run.parallelism."""
    vars: dict[str, Any] = field(default_factory=dict)
    """Values for templates: `{{ vars.model }}`."""
    resources: dict[str, Resource] = field(default_factory=dict)
    """Named services."""
    run: Run = Run()
    """How the items are run."""
    output: Output = Output()
    """Where the result goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedJob:
    """A checked job with the folder its relative paths start from."""

    job: Job
    name: str
    dataset: Dataset
    workflow: Workflow
    run: Run
    folder: Path
    file: Path | None = None
    positions: Mapping[tuple[str | int, ...], str] = field(default_factory=dict)
    """`file:line:column` of every value, by its path."""
