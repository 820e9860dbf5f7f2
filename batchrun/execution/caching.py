"""The cache of an execution: open while its items run, if a node wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from batchrun.core.errors import ExecutionError
from batchrun.core.protocols import OutputCache
from batchrun.execution.record import Record
from batchrun.store import Cache
from batchrun.workflows.plan import Plan


@contextmanager
def cache_of(plan: Plan, record: Record, on_note: Callable[[str], None]) -> Iterator[OutputCache | None]:
    """The cache, for as long as items run; null when no node is cached.

    The record gets `cached_nodes`: by the id of each cached node, when its outputs were last kept, if it has changed since;
    else null. That is looked up before the first item: its outputs would hide it.
    """
    steps = [step for step in plan.steps if step.is_cached]
    if not steps:
        yield None
        return
    with closing(Cache(record.content["job_name"], on_note)) as cache:
        changed = {step.id: cache.changed_since(step.id, step.fingerprint) for step in steps}
        before = record.content.get("cached_nodes") or {}  # of an earlier run of this execution, which has kept outputs since
        nodes = {id: since.isoformat() if since is not None else before.get(id) for id, since in changed.items()}
        with suppress(ExecutionError):  # a full disk is told by those who cannot do without it
            record.update(cached_nodes=nodes)
        yield cache
