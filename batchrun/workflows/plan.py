"""A workflow, compiled: everything that can be decided before the first item has been."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

from batchrun.core.job import Batch, DefaultOnFailure
from batchrun.flow.retry import RetryPolicy
from batchrun.workflows.node import Render
from batchrun.workflows.scope import Scope
from batchrun.workflows.types import TypeSpec
from batchrun.workflows.values import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node of a plan.

    Attributes:
        position: where the node stands in the job file, counted from 0; its output is `scope.outputs[position]`.
        bit: `1 << position`; sets of nodes are integers.
        waits: whether its items wait for it on the event loop.
        call_waits: whether `call` and `call_many` are coroutine functions; else they are plain ones that may block.
        inputs: gives the node's inputs for an item.
        when: the node is skipped where this is false or null.
        upstream: the nodes that end before it begins, as bits.
        sources: the nodes it reads or needs, as bits; it is skipped when all of them were.
        chosen_by: positions of the nodes that choose it by giving its id as their output; it is skipped when none does.
        fallback_for: the node in whose place it runs when that one fails, as a bit; 0: it is no fallback.
        stands_in_for: positions of the nodes whose outputs its own replaces: that node, and those which that one stands in for.
        conditional: whether the node can be skipped at all.
        has_parts: whether its calls run other plans.
        restore: makes an output from what its JSON text says; may raise.
        turn: entered around each call; null: they need not wait for their turn.
        is_cached: whether outputs come from the cache and go there.
        is_deduped: whether items with the same key share a call.
        asks_person: whether it waits for a person: it counts against no budget.
        batch: how calls of many items become one; null: they do not.
        max_output_bytes: the largest output, as JSON.
        key: gives what decides the output, besides `fingerprint`.
        call_many: makes one call for several items.
        fingerprint: of what the node does, as text.
    """

    position: int
    bit: int
    id: str
    type: str
    call: Callable[[Scope], Any]
    waits: bool
    call_waits: bool
    inputs: Render
    when: Render | None
    upstream: int
    sources: int
    chosen_by: tuple[int, ...]
    fallback_for: int
    stands_in_for: tuple[int, ...]
    conditional: bool
    timeout_seconds: float | None
    retry: RetryPolicy
    on_failure: str | DefaultOnFailure
    queues: bool
    turn: Callable[[Scope], AbstractAsyncContextManager[None]] | None
    sends_call_key: bool
    wants_context: bool
    asks_person: bool
    has_parts: bool
    restore: Callable[[Any], Any]
    is_cached: bool
    is_deduped: bool
    batch: Batch | None
    max_output_bytes: int
    key: Callable[[Scope], Any] | None
    call_many: Callable[[Sequence[Scope]], Any] | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Nodes that run one after another in a lane thread, or nodes that wait together on the event loop."""

    steps: tuple[Step, ...]
    waits: bool


class NodeFingerprint(NamedTuple):
    """What a node does, in two hashes: where both are the same as before, its outputs of then are those of now.

    Attributes:
        options: of what the job says about it, and of the values of the `vars` it refers to.
        code: of the source of the function it calls and of what that refers to in its own package.
    """

    options: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done with each item.

    Attributes:
        steps: every node, by position.
        stages: the order of work; a stage starts when the one before has ended.
        output: gives the item's output once all stages have ended.
        output_nodes: the nodes the output reads, as bits.
        max_output_bytes: the largest output of an item, as JSON: as large as those it reads may be together; null: it reads none.
        output_type: type of the output column; null: JSON text.
        output_check: checks an output against `output_type`.
        columns: the columns the workflow reads, in the dataset's order.
        lifespans: entered before the first item.
        node_fingerprints: of each node, by its id, in the order of the job.
        output_fingerprint: of what the job says about the output, and of the values of the `vars` it refers to.
        fingerprint: of all of these: of everything that gives the workflow its meaning.
    """

    steps: tuple[Step, ...]
    stages: tuple[Stage, ...]
    output: Render
    output_nodes: int
    max_output_bytes: int | None
    output_type: TypeSpec | None
    output_check: Check | None
    columns: tuple[str, ...]
    lifespans: tuple[Callable[[], AbstractAsyncContextManager[None]], ...]
    node_fingerprints: Mapping[str, NodeFingerprint]
    output_fingerprint: str
    fingerprint: str

    @property
    def is_one_stretch(self) -> bool:
        """Whether nothing in the workflow waits on the event loop."""
        return len(self.stages) == 1 and not self.stages[0].waits

    @property
    def is_one_batch(self) -> bool:
        """Whether all that the workflow does is to call one node, for many items at once and whatever it gives."""
        if len(self.steps) != 1 or self.steps[0].batch is None:
            return False
        step = self.steps[0]
        needs_more = step.conditional or step.is_cached or step.is_deduped or step.has_parts or step.wants_context or step.asks_person
        return not (needs_more or step.sends_call_key or step.queues or step.turn is not None)

    @property
    def is_in_chunks(self) -> bool:
        """Whether items need no task of their own on the event loop."""
        return self.is_one_stretch or self.is_one_batch
