"""What the items of a sample took, and what the others take after that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from batchrun.core.events import Event, ItemEnded, NodeEnded
from batchrun.core.items import Usage
from batchrun.core.plans import Estimate
from batchrun.execution.prepare import Prepared
from batchrun.flow.estimate import Bound, covered, extrapolate, most_at_once
from batchrun.workflows.plan import Step

_RECORDED = ("calls", "input tokens", "output tokens", "cost")
_USED_RATE_RATIO = 0.97  # of what a service allows; see batchrun.flow.limits


class SampleEvents:
    """Listens to an execution that runs a sample.

    Attributes:
        items: those that have ended, or wait for a person, by `item_index`.
        nodes: their node executions that were more than skipped.
    """

    def __init__(self) -> None:
        self.items: dict[int, ItemEnded] = {}
        self.nodes: dict[int, list[NodeEnded]] = defaultdict(list)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.take((event,))

    def take(self, events: Sequence[Event]) -> None:
        """Take events in the order in which they were told."""
        for event in events:
            if isinstance(event, NodeEnded) and event.started_at is not None:
                self.nodes[event.item_index].append(event)
            elif isinstance(event, ItemEnded) and event.status != "cancelled":
                self.items[event.item_index] = event

    @property
    def seconds(self) -> float:
        """From the start of the first item to the end of the last one."""
        starts = [item.started_at.timestamp() for item in self.items.values() if item.started_at is not None]
        return max((item.at.timestamp() for item in self.items.values()), default=0.0) - min(starts) if starts else 0.0

    @property
    def usage(self) -> Usage:
        """What their calls have used."""
        used = [node.usage for node in self._ended_nodes() if node.usage is not None]
        tokens = sum(usage.input_tokens for usage in used), sum(usage.output_tokens for usage in used)
        return Usage(*tokens, sum(usage.cost for usage in used))

    def _ended_nodes(self) -> Iterator[NodeEnded]:
        return chain.from_iterable(self.nodes[index] for index in self.items)


class Taken:
    """What each item of a sample took.

    Args:
        prepared: the job.
        events: of its sample.
        record: of its execution.

    Attributes:
        by_item: amounts by name, of each item.
    """

    def __init__(self, prepared: Prepared, events: SampleEvents, record: Mapping[str, Any]) -> None:
        self._steps = {step.id: step for step in prepared.plan.steps}
        self._resources = {node.id: getattr(node, "resource", None) for node in prepared.loaded.workflow.nodes}
        batches = record.get("batches") or {}
        self._shares = {id: size["calls"] / size["items"] for id, size in batches.items() if size["items"]}
        self._lanes: list[tuple[float, float]] = []
        self._waiting: list[tuple[float, float]] = []
        self.is_recorded = prepared.loaded.job.output.node_executions != "none"
        ended = sorted(events.items.items())  # in another order, the draws of an estimate would be others
        self.by_item = [self._amounts(item, events.nodes[index]) for index, item in ended]
        self._spread_requests(record.get("resources") or {})

    @property
    def lanes_at_once(self) -> int:
        """The most functions that ran in threads at the same time."""
        return most_at_once(self._lanes)

    @property
    def waiting_at_once(self) -> int:
        """The most calls that were waited for on the event loop at the same time."""
        return most_at_once(self._waiting)

    @property
    def calls(self) -> float:
        """Calls of all items together."""
        return sum(amounts["calls"] for amounts in self.by_item)

    def _amounts(self, item: ItemEnded, nodes: Sequence[NodeEnded]) -> dict[str, float]:
        amounts: dict[str, float] = defaultdict(float, dict.fromkeys(_RECORDED, 0.0))
        if not self.is_recorded:
            amounts["busy"] = item.duration_ms / 1e3
        intervals, held = [], []  # the latter: with the whole of calls that are made for several items
        for node in nodes:
            step = self._steps.get(node.node_id)  # null: it ran as part of a call of another node
            share = self._shares.get(node.node_id, 1.0)
            if node.usage is not None:
                self._add_usage(amounts, node)
            if node.cache_hit or node.started_at is None or (step is not None and step.asks_person):
                continue
            if step is None or not step.has_parts:
                amounts["calls"] += node.attempts * share
            if step is not None:
                start, seconds = node.started_at.timestamp(), node.duration_ms / 1e3
                intervals.append((start, start + seconds * share))
                held.append((start, start + seconds))
                amounts["busy"] += max(node.attempts - 1, 0) * seconds * share  # the times of earlier attempts are not known
                self._add_call(amounts, node, step, seconds * share)
        amounts["busy"] += covered(intervals)
        amounts["held"] += covered(held)
        return amounts

    def _add_call(self, amounts: dict[str, float], node: NodeEnded, step: Step, seconds: float) -> None:
        start = node.started_at.timestamp() if node.started_at is not None else 0.0
        name, times = ("waiting", self._waiting) if step.waits else ("lanes", self._lanes)
        times.append((start, start + node.duration_ms / 1e3))
        attempts = max(node.attempts, 1)
        amounts[name] += seconds * attempts
        resource = self._resources.get(step.id)
        if resource is not None:
            amounts[f"{resource} seconds"] += seconds * attempts
            amounts[f"{resource} attempts"] += attempts

    def _add_usage(self, amounts: dict[str, float], node: NodeEnded) -> None:
        if node.usage is None:
            return
        amounts["input tokens"] += node.usage.input_tokens
        amounts["output tokens"] += node.usage.output_tokens
        amounts["cost"] += node.usage.cost
        resource = self._resources.get(node.node_id.partition(".")[0])
        amounts[f"{resource} tokens"] += node.usage.input_tokens + node.usage.output_tokens

    def _spread_requests(self, resources: Mapping[str, Mapping[str, float]]) -> None:
        """One call may be several requests, as of nodes that poll: each item has its part of them, by its calls where these are known."""
        for name, figures in resources.items():
            total = sum(amounts[f"{name} attempts"] for amounts in self.by_item)
            for amounts in self.by_item:
                part = amounts[f"{name} attempts"] / total if total else 1 / len(self.by_item)
                amounts[f"{name} requests"] = figures["calls"] * part


def extrapolated(prepared: Prepared, taken: Taken, rest_items: int) -> Estimate:
    """What the other items take.

    Args:
        prepared: the job.
        taken: what those of its sample took, at least one.
        rest_items: how many others there are.
    """
    seed = prepared.sample.seed if prepared.sample is not None else 0
    found = extrapolate(taken.by_item, [*_bounds(prepared, taken)], rest_items, seed)
    calls, input_tokens, output_tokens, cost = (found.amounts[name] if taken.is_recorded else None for name in _RECORDED)
    return Estimate(
        items=rest_items,
        seconds=found.seconds,
        bounded_by=found.bounded_by,
        calls=calls,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost=cost,
    )


def _bounds(prepared: Prepared, taken: Taken) -> Iterator[Bound]:
    """What keeps the items from being faster: what the job says, and what was seen."""
    parallelism = prepared.loaded.run.parallelism
    for name, resource in prepared.resources.items():
        per_minute = {"requests": resource.requests_per_minute, "tokens": resource.tokens_per_minute}
        for what, limit in per_minute.items():
            if limit is not None:
                yield Bound(f"resources.{name}.{what}_per_minute: {limit:g}", f"{name} {what}", limit * _USED_RATE_RATIO / 60)
        if resource.max_concurrency is not None:
            yield Bound(f"resources.{name}.max_concurrency: {resource.max_concurrency}", f"{name} seconds", resource.max_concurrency)
    yield Bound(f"run.parallelism: {parallelism}", "busy", parallelism)
    sizes = [step.batch.max_items for step in prepared.plan.steps if step.batch is not None]
    if sizes:  # else parallelism is the narrower one
        max_open = prepared.loaded.run.max_open_items or max(4 * parallelism, 2 * max(sizes))
        yield Bound(f"run.max_open_items: {max_open}", "held", max_open)
    at_once = taken.lanes_at_once
    yield Bound(f"functions in threads, at most {at_once} at once in the sample", "lanes", min(at_once, parallelism))
    at_once = taken.waiting_at_once
    if at_once < min(len(taken.by_item), parallelism):  # else more may wait at once than there were
        yield Bound(f"calls, at most {at_once} at once in the sample", "waiting", at_once)
