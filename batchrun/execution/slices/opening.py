"""Making ready what worker processes need of an execution."""

from __future__ import annotations

from batchrun.execution.opening import Opened
from batchrun.execution.prepare import Prepared
from batchrun.execution.secrets import secrets_of
from batchrun.execution.slices.account import Items, Ports
from batchrun.execution.slices.dispatching import Slices
from batchrun.execution.slices.messages import Start
from batchrun.execution.slices.refusing import portable_job


def slices_of(prepared: Prepared, opened: Opened, ports: Ports, *, is_told: bool) -> Slices:
    """What runs the items of an execution in worker processes.

    Args:
        prepared: the job.
        opened: the execution.
        ports: where things go that workers tell.
        is_told: whether somebody wants to know what happens to each item.
    """
    items, layout, kept, record = opened
    is_resumed = kept.recovered is not None
    start = Start(
        loaded=portable_job(prepared.loaded),
        columns=tuple(prepared.source.columns),
        secrets=secrets_of(prepared.loaded, lambda _problem: None),  # they were found before
        shape=items.shape,
        layout=layout,
        execution_id=record.content["execution_id"],
        folder=str(record.folder),
        stale=kept.stale,
        is_resumed=is_resumed or not prepared.plan.is_one_stretch,
        tells_events=is_told,
        tells_sent_back=ports.sent_back is not None,
        is_durable=kept.journal is not None,
    )
    wanted = kept.wanted(items.total_items)
    run = Items(items.rows_of(wanted), wanted, items.total_items, kept.counts(), kept.restored if is_resumed else None)
    return Slices(start, prepared.plan, run, ports)
