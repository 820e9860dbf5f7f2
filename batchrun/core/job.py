"""The job file, word for word.

Each dataclass is one mapping of the YAML file, each field one key; the docstring under a field is its description in
the JSON Schema and in the reference page. All durations are in seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from batchrun.core.auth import Auth
from batchrun.core.checks import above, at_least, problem, refuse
from batchrun.core.connection import Connection
from batchrun.core.formats import CsvFormat, FilesFormat, Sample
from batchrun.core.output import Output
from batchrun.core.policies import Breaker, Budget, FailurePolicy, Retry
from batchrun.core.prices import Price

NODE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_NO_VERSION = "is one of a named dataset or of a Delta table; give the name, or leave out the format"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What is read, and which rows of it."""

    path: str | None = None
    """A file, a folder, a glob, a hive-partitioned tree or a Delta table; relative to the job file, or an address in an object store: s3://,
    gs:// or az://. Give either this or name."""
    name: str | None = None
    """A named dataset, made with `batchrun dataset add`; `tickets@3` is short for name and version."""
    version: int | str | None = None
    """Which version of the named dataset, or of the Delta table at path: `latest`, its number, a tag, or a date or time in quotes: the
    newest version of then."""
    format: Literal["parquet", "csv", "ndjson", "arrow", "delta", "files"] | None = None
    """The file format; `delta`: a Delta table; `files`: each file of a folder is an item; null: from the file names."""
    id: str | None = None
    """The column that names each row; unique and never null. Null: the row's position."""
    input_field: str | None = None
    """The column that `{{ input }}` is; null: the whole item."""
    inputs: dict[str, Any] = field(default_factory=dict)
    """Inputs of nodes, by the node's label, its id, or `node_id::input`: values and templates, in place of what the node says. Where one
    is null, what the node says holds."""
    filter: str | None = None
    """A SQL WHERE expression over the columns."""
    with_columns: dict[str, str] = field(default_factory=dict)
    """New columns, each a SQL expression, computed before the filter."""
    columns: tuple[str, ...] | None = None
    """The columns to read; null: all."""
    schema: dict[str, str] = field(default_factory=dict)
    """Column types that replace what the file says or what is guessed: string, int64, float64, bool, date, …"""
    schema_mode: Literal["same", "union"] = "same"
    """Whether all files must have the same columns; union: every column that any file has, null in those that lack it, in a type that
    holds all values without loss."""
    limit: int | None = None
    """The most items to read, after filter and sample."""
    sample: Sample | None = None
    """A random part of the rows that pass the filter."""
    csv: CsvFormat = CsvFormat()
    """How CSV files are written."""
    files: FilesFormat = FilesFormat()
    """Which files become items, with format files."""
    on_bad_rows: Literal["refuse", "reject"] = "refuse"
    """CSV rows that do not parse: refuse the job, or write them to rejects.parquet and go on."""

    def __post_init__(self) -> None:
        has_neither, has_both = self.path is None and self.name is None, self.path is not None and self.name is not None
        refuse(
            problem("path", "is missing; give the path of a file or folder, or the name of a dataset" if has_neither else None),
            problem("name", f"the dataset has a path, {self.path}, and a name; give only one of them" if has_both else None),
            problem("version", _NO_VERSION if self.version is not None and self.format not in (None, "delta") else None),
            problem("files", "belongs to format files" if self.files != FilesFormat() and self.format not in (None, "files") else None),
            at_least(0, limit=self.limit),
        )

    @property
    def label(self) -> str:
        """What people call it: its path, or `name@version`."""
        if self.name is None:
            return self.path or ""
        return self.name if self.version is None else f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Connection):
    """A named service with settings and limits shared by all nodes that use it."""

    base_url: str = ""
    """What relative paths of requests are appended to; only `python` nodes can do without."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers sent with every request. They may refer to `{{ secrets.NAME }}` and `{{ vars.name }}`."""
    auth: Auth | None = None
    """Who sends the requests: a token, user and password, a key, or an OAuth2 client."""
    max_concurrency: int | None = None
    """The most calls at any instant; null: no limit beyond `run.parallelism`."""
    requests_per_minute: float | None = None
    """The most calls in any 60 seconds, spread evenly; 0.5 is one in two minutes. Null: no limit."""
    tokens_per_minute: float | None = None
    """The most tokens in any 60 seconds, of `chat` nodes: what a call may use is estimated before, and corrected by what it says it has
    used. Null: no limit."""
    adaptive: bool = False
    """Find out how many calls at a time the service can take, up to max_concurrency; and call nothing while it asks to be left alone."""
    breaker: Breaker | None = Breaker()
    """When calls are parked because the service is out of order; null: never."""

    def __post_init__(self) -> None:
        Connection.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(
            at_least(1, max_concurrency=self.max_concurrency),
            above(0, requests_per_minute=self.requests_per_minute, tokens_per_minute=self.tokens_per_minute),
            problem("requests_per_minute", "must be a number, or null for no limit" if self.requests_per_minute == math.inf else None),
            problem("tokens_per_minute", "must be a number, or null for no limit" if self.tokens_per_minute == math.inf else None),
        )


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
    max_output_bytes: int = 32 * 2**20
    """The largest output, as JSON; one that is larger fails its item. With `output.node_executions` other than full, it is the output
    of the item that is measured."""

    def __post_init__(self) -> None:
        rule = f"must be letters, digits and underscores, not starting with a digit; got {self.id!r}"
        refuse(
            above(0, timeout_seconds=self.timeout_seconds),
            at_least(1, max_output_bytes=self.max_output_bytes),
            problem("id", None if NODE_ID.fullmatch(self.id) else rule),
        )


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
    backend: Literal["local", "processes"] = "local"
    """Where items run: in this process, or slices of them in worker processes, each of which runs whole items."""
    processes: int | None = None
    """How many worker processes, with backend processes; null: as many as there are cores."""

    def __post_init__(self) -> None:
        too_few = self.max_open_items is not None and self.max_open_items < self.parallelism
        refuse(
            at_least(1, parallelism=self.parallelism, max_parallel_nodes=self.max_parallel_nodes, processes=self.processes),
            problem("max_open_items", f"must be ≥ parallelism ({self.parallelism}), got {self.max_open_items}" if too_few else None),
            above(0, item_timeout_seconds=self.item_timeout_seconds, timeout_seconds=self.timeout_seconds),
            at_least(0, max_throttled_seconds=self.max_throttled_seconds, grace_seconds=self.grace_seconds),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A dataset, a workflow, and how to run the one through the other.

    In Python, `dataset` may also be a path or a data frame, and `workflow` a plain function of one item.

    Example:
        >>> job = Job(dataset="tickets.parquet", workflow="my_project.tickets:triage", parallelism=50)
    """

    dataset: Dataset | str | Any
    """What is read; a plain string is its path, or the name and version of a named dataset: `tickets@latest`."""
    workflow: Workflow | str | Callable[..., Any]
    """What is done with each item; a plain string is one `module:function` that takes the item."""
    name: str | None = None
    """Names the job in lists and results; null: the name of the job file or of the function."""
    parallelism: int | None = None
    """Short for run.parallelism."""
    vars: dict[str, Any] = field(default_factory=dict)
    """Values for templates: `{{ vars.model }}`."""
    secrets: tuple[str, ...] = ()
    """Names of secrets: each comes from the environment variable of that name, or from the file that NAME_FILE names. Nodes and headers of
    resources refer to them as `{{ secrets.API_KEY }}`; they are never stored or shown."""
    resources: dict[str, Resource] = field(default_factory=dict)
    """Named services."""
    prices: dict[str, Price] = field(default_factory=dict)
    """What tokens of models cost, by the name of the model."""
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
