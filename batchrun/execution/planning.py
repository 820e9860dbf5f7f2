"""What a job would read and do: said before it is run, or once a sample of its items has been."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from batchrun.config import locate
from batchrun.core.errors import JobError
from batchrun.core.plans import Estimate, JobPlan, Range, SampleFailure, SampleRun
from batchrun.execution.prepare import Prepared
from batchrun.execution.record import Record
from batchrun.execution.sampled import SampleEvents, Taken, extrapolated
from batchrun.results import ResultTotals
from batchrun.results.files import unwritable

_IN_LANES = "one after another, in a lane thread"


def planned(prepared: Prepared, total_items: int) -> JobPlan:
    """What a job would read and do.

    Args:
        prepared: the job.
        total_items: how many items there are.
    """
    plan, dataset = prepared.plan, prepared.loaded.dataset
    stages = (
        (", ".join(f"{step.id} ({step.type})" for step in stage.steps), "together, on the event loop" if stage.waits else _IN_LANES)
        for stage in plan.stages
    )
    return JobPlan(
        job_name=prepared.loaded.name,
        dataset=dataset.label,
        total_items=total_items,
        filter=dataset.filter,
        columns=tuple(plan.columns),
        dataset_columns=len(prepared.source.columns),
        steps=tuple(f"{steps}: {how}" for steps, how in stages),
        output="JSON text" if plan.output_type is None else str(plan.output_type),
        pushdown=prepared.source.pushdown(plan.columns, prepared.keep),
        warnings=prepared.warnings,
        publish=prepared.loaded.job.output.publish,
    )


def count_items(prepared: Prepared) -> int:
    """How many items there are. Copies of files that cannot be read in slices are removed again.

    Raises:
        JobError: the items are refused, such as duplicate ids.
        ExecutionError: there is no space for such copies.
    """
    with tempfile.TemporaryDirectory(prefix="batchrun-plan-") as folder:
        spool = Path(folder) / "spool"
        try:
            source, columns = prepared.source, prepared.plan.columns
            return source.load(columns, prepared.keep, spool=spool, rejects=Path(folder) / "rejects.parquet").total_items
        except JobError as error:
            raise locate(error.problems, prepared.loaded) from None
        except OSError as error:
            raise unwritable(spool, error) from error


def with_sample(plan: JobPlan, prepared: Prepared, record: Record, events: SampleEvents) -> JobPlan:
    """The plan with what a sample says of the other items.

    Args:
        plan: the plan without it.
        prepared: the job, with its sample.
        record: of the execution that has run the sample.
        events: what that execution has told.
    """
    if prepared.sample is None:
        raise AssertionError("the job has a sample")
    wanted = min(prepared.sample.items, plan.total_items)
    taken = Taken(prepared, events, record.content)
    sample = _sample_run(record, events, taken, wanted, prepared.sample.seed)
    rest = plan.total_items - sample.run_items
    estimate = extrapolated(prepared, taken, rest) if events.items and rest else None
    warnings = (*plan.warnings, *_warnings(prepared, sample, estimate))
    return replace(plan, sample=sample, rest=estimate, warnings=warnings)


def _sample_run(record: Record, events: SampleEvents, taken: Taken, wanted: int, seed: int) -> SampleRun:
    content = record.content
    totals = ResultTotals.from_plain(content["totals"]) if content.get("totals") is not None else None
    counts = {name: sum(item.status == name for item in events.items.values()) for name in ("completed", "failed", "skipped", "waiting")}
    run_items = sum(counts.values())
    return SampleRun(
        execution_id=record.id,
        folder=str(record.folder),
        status=record.status,
        reason=content.get("error") if run_items < wanted or record.status not in ("paused", "completed") else None,
        wanted_items=wanted,
        seed=seed,
        seconds=events.seconds,
        calls=round(taken.calls) if taken.is_recorded else None,
        usage=events.usage,
        failures=tuple(
            SampleFailure(
                error_type=group.error_type,
                node_id=group.node_id,
                count=group.count,
                source_item_id=group.source_item_id,
                message=group.message,
            )
            for group in (totals.failures if totals is not None else ())
        ),
        **{f"{name}_items": count for name, count in counts.items()},
    )


def _warnings(prepared: Prepared, sample: SampleRun, rest: Estimate | None) -> Iterator[str]:
    if rest is None:
        return
    run, budget, failed = prepared.loaded.run, prepared.loaded.run.budget, sample.failed_items
    if rest.calls is not None and sample.calls is not None:
        yield from _over("run.budget.max_calls", budget.max_calls, sample.calls, rest.calls)
    if rest.input_tokens is not None and rest.output_tokens is not None:
        tokens = (rest.input_tokens, rest.output_tokens)
        both = Range(
            low=sum(each.low for each in tokens), expected=sum(each.expected for each in tokens), high=sum(each.high for each in tokens)
        )
        yield from _over("run.budget.max_tokens", budget.max_tokens, sample.usage.input_tokens + sample.usage.output_tokens, both)
    if rest.cost is not None:
        yield from _over("run.budget.max_cost", budget.max_cost, sample.usage.cost, rest.cost)
    yield from _over("run.timeout_seconds", run.timeout_seconds, sample.seconds, rest.seconds)
    policy, judged = run.failure_policy, sample.failed_items + sample.completed_items
    if policy.max_failure_ratio is not None and judged and failed / judged > policy.max_failure_ratio:
        yield f"{failed:,} of {judged:,} items have failed: more than run.failure_policy.max_failure_ratio, {policy.max_failure_ratio:g}"
    expected = failed / max(sample.run_items, 1) * (sample.run_items + rest.items)
    if policy.max_failures is not None and expected > policy.max_failures:
        yield f"about {expected:,.0f} items will fail: more than run.failure_policy.max_failures, {policy.max_failures:,}"
    if any(not stage.waits for stage in prepared.plan.stages) and sample.run_items < run.parallelism:
        yield f"the sample is smaller than run.parallelism, {run.parallelism}: how functions run side by side is hardly known"


def _over(field: str, limit: float | None, used: float, rest: Range) -> Iterator[str]:
    """Whether a limit does not suffice for sample and rest together."""
    if limit is not None and used + rest.high > limit:
        low, expected, high = (_shown(used + value) for value in (rest.low, rest.expected, rest.high))
        sure = "does not suffice" if used + rest.expected > limit else "may not suffice"
        yield f"{field}, {_shown(limit)}, {sure}: it takes about {expected} ({low} to {high}), with the sample; the execution pauses there"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.4g}"
