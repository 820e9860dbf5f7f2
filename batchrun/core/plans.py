"""What a job would read and do, and what that would take, as far as it is known before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from batchrun.core.items import Usage
from batchrun.core.text import counted, duration, one_line, safe

_MESSAGE_CHARS = 100
_MOST_FAILURES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterPart:
    """A part of the filter; a row passes if it passes all of them.

    Attributes:
        text: the expression, in polars' words.
        where: `folders`: decided by the names of folders, before files are opened; `scan`: while files are read; `rows`: of rows
            that were read.
    """

    text: str
    where: Literal["folders", "scan", "rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushdown:
    """What need not be read, and where the filter is applied.

    Attributes:
        files: of the dataset.
        skipped_files: those in which no row can pass, by the names of their folders or by what their table says of them.
        columns: those that are read from the files, for the workflow, the result and the filter.
        row_groups: of the other files; null: the files are not Parquet.
        skipped_row_groups: those of them that are not decoded, as their statistics tell that no row passes.
        filter: its parts.
    """

    files: int
    skipped_files: int
    columns: tuple[str, ...]
    row_groups: int | None
    skipped_row_groups: int
    filter: tuple[FilterPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An estimate.

    Attributes:
        low: the lower end of the 95 % interval.
        expected: the estimate itself.
        high: the upper end.
    """

    low: float
    expected: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the items take that are not in the sample.

    Attributes:
        items: how many there are.
        seconds: how long they take.
        bounded_by: what it is that makes it take so long: a limit of the job, or what was seen in the sample.
        calls: calls of nodes, repeated ones included; null: the job does not record them.
        input_tokens: that they send; null: as above.
        output_tokens: that they are answered.
        cost: in the unit of the budget.
    """

    items: int
    seconds: Range
    bounded_by: str
    calls: Range | None
    input_tokens: Range | None
    output_tokens: Range | None
    cost: Range | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFailure:
    """Failed items of a sample with the same error type at the same node.

    Attributes:
        node_id: null when they failed outside of a node.
        source_item_id: the first of them, as text.
        message: its error message.
    """

    error_type: str
    node_id: str | None
    count: int
    source_item_id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRun:
    """What became of a sample of real items.

    Attributes:
        execution_id: names the execution that it is the first part of.
        folder: of that execution; `batchrun.resume` goes on with the rest.
        status: of that execution.
        reason: why it did not run to the end of the sample; null: it did.
        wanted_items: how many were to be run.
        seed: which items were chosen follows from it.
        seconds: how long they took.
        calls: null: the job does not record them.
        failures: the largest group first.
    """

    execution_id: str
    folder: str
    status: str
    reason: str | None
    wanted_items: int
    seed: int
    completed_items: int
    failed_items: int
    skipped_items: int
    waiting_items: int
    seconds: float
    calls: int | None
    usage: Usage
    failures: tuple[SampleFailure, ...]

    @property
    def run_items(self) -> int:
        """Those that have ended or wait for a person."""
        return self.completed_items + self.failed_items + self.skipped_items + self.waiting_items


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobPlan:
    """What a job would read and do. Its text is for people, `plain()` for programs.

    Attributes:
        dataset: what people call it.
        total_items: rows of the dataset that become items.
        filter: as the job has it; null: there is none.
        columns: those the workflow reads.
        dataset_columns: how many the dataset has.
        steps: of each stage of the workflow, in words.
        output: type of the output.
        sample: what became of the sample; null: none was run.
        rest: what the other items take; null: no sample was run, there are no others, or nothing can be said.
        warnings: what should be known before the rest is run, such as a budget that does not suffice.
        publish: the address that its files will be copied below; null: nowhere.
    """

    job_name: str
    dataset: str
    total_items: int
    filter: str | None
    columns: tuple[str, ...]
    dataset_columns: int
    steps: tuple[str, ...]
    output: str
    pushdown: Pushdown
    sample: SampleRun | None = None
    rest: Estimate | None = None
    warnings: tuple[str, ...] = ()
    publish: str | None = None

    def plain(self) -> dict[str, Any]:
        """The plan as plain values, for JSON."""
        plain: dict[str, Any] = asdict(self)
        if self.sample is not None:
            plain["sample"]["usage"] = self.sample.usage._asdict()
        return plain

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def __repr__(self) -> str:
        return str(self)


def _lines(plan: JobPlan) -> Iterator[str]:
    pushdown = plan.pushdown
    yield f"dataset   {safe(plan.dataset)}: {pushdown.files} file(s)"
    yield f"items     {plan.total_items:,}"
    yield f"filter    {safe(plan.filter or 'none')}"
    yield f"columns   {safe(', '.join(plan.columns)) or 'none'} (of {plan.dataset_columns})"
    yield from _pushed_down(pushdown)
    for number, stage in enumerate(plan.steps, start=1):
        yield f"stage {number}   {stage}"
    yield f"output    {plan.output}"
    if plan.publish is not None:
        yield f"publish   {safe(plan.publish)}"
    if plan.sample is not None:
        yield from _sampled(plan.sample)
    if plan.rest is not None:
        yield from _estimated(plan.rest)
    for warning in plan.warnings:
        yield f"WARNING: {safe(warning)}"


_WHERE = {
    "folders": "decided by the names of folders",
    "scan": "pushed down into the scan",
    "rows": "applied to rows that were read",
}


def _pushed_down(pushdown: Pushdown) -> Iterator[str]:
    for part in pushdown.filter:
        yield f"  {safe(part.text)}: {_WHERE[part.where]}"
    if pushdown.skipped_files:
        yield f"  {pushdown.files - pushdown.skipped_files:,} of {pushdown.files:,} files are read"
    if pushdown.skipped_row_groups and pushdown.row_groups is not None:
        yield f"  {pushdown.row_groups - pushdown.skipped_row_groups:,} of {pushdown.row_groups:,} row groups are read, by their statistics"


def _sampled(sample: SampleRun) -> Iterator[str]:
    counts = {"failed": sample.failed_items, "skipped": sample.skipped_items, "waiting": sample.waiting_items}
    shown = "".join(f", {count:,} {name}" for name, count in counts.items() if count)
    missing = f" of {sample.wanted_items:,}" if sample.run_items < sample.wanted_items else ""
    yield ""
    yield (
        f"sample    {sample.run_items:,}{missing} items (seed {sample.seed}) in {duration(sample.seconds)}: "
        f"{sample.completed_items:,} completed{shown}{_used(sample.calls, sample.usage)}"
    )
    for failure in sample.failures[:_MOST_FAILURES]:
        place = "" if failure.node_id is None else f" at {failure.node_id}"
        example = f"{failure.source_item_id}: {one_line(failure.message, _MESSAGE_CHARS)}"
        yield f"  {counted(failure.count, 'item')} {failure.error_type}{place}, such as {one_line(example)}"
    if more := len(sample.failures) - _MOST_FAILURES:
        yield from (f"  and {more:,} more kinds of errors" for _ in range(more > 0))
    if sample.reason is not None:
        yield f"  {safe(sample.reason)}"


def _used(calls: int | None, usage: Usage) -> str:
    used = "" if calls is None else f"; {counted(calls, 'call')}"
    if usage.input_tokens or usage.output_tokens:
        used += f", {usage.input_tokens:,} input and {usage.output_tokens:,} output tokens"
    return used + (f", cost {usage.cost:,.6g}" if usage.cost else "")


def _estimated(rest: Estimate) -> Iterator[str]:
    yield f"the rest  {counted(rest.items, 'item')}"
    yield f"  time           {_range(rest.seconds, duration)}, bounded by {rest.bounded_by}"
    named: Mapping[str, Range | None] = {"calls": rest.calls, "input tokens": rest.input_tokens, "output tokens": rest.output_tokens}
    for name, values in named.items():
        if values is not None and values.high:
            yield f"  {name:<13}  {_range(values, lambda value: f'{value:,.0f}')}"
    if rest.cost is not None and rest.cost.high:
        yield f"  {'cost':<13}  {_range(rest.cost, lambda value: f'{value:,.4g}')}"


def _range(values: Range, text: Any) -> str:
    low, expected, high = text(values.low), text(values.expected), text(values.high)
    return f"about {expected}" if low == high else f"about {expected} ({low} to {high})"
