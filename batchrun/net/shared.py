"""One gate per named service, shared by all nodes that use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from anyio.lowlevel import RunVar

from batchrun.core.executions import ResourceState
from batchrun.core.job import Resource
from batchrun.net.gate import Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guarded:
    """A resource on an event loop: itself, kept so that its id stays taken, what it was tuned to, and its gate."""

    resource: Resource
    now: Resource
    gate: Gate


_guarded: RunVar[dict[int, _Guarded]] = RunVar("batchrun_gates")
"""By the id of each resource that was used or tuned on this event loop; it outlives the clients, which come and go."""


def gate_of(resource: Resource) -> Gate:
    """The gate of a resource on the running event loop."""
    return _guard(resource).gate


def tune(resource: Resource, **limits: Any) -> None:
    """Change limits of a resource on the running event loop, whether its client is open now or opened later.

    Waiting requests go at once when there is room for more. When there is room for fewer, none goes before enough of those
    under way have ended. `resource` itself stays as it is.

    Args:
        resource: whose limits.
        **limits: `max_concurrency`, `requests_per_minute` and `tokens_per_minute`; null: no limit.

    Raises:
        ValueError: a limit is too small.
    """
    guarded = _guard(resource)
    now = replace(guarded.now, **limits)
    guarded.gate.limit(
        max_concurrency=now.max_concurrency, requests_per_minute=now.requests_per_minute, tokens_per_minute=now.tokens_per_minute
    )
    _guarded.get()[id(resource)] = replace(guarded, now=now)


def stop_waiting(resources: Mapping[str, Resource]) -> None:
    """The execution stops: calls for items that wait for those resources on the running event loop end. Nothing of them was sent."""
    known = _guarded.get({})
    for resource in resources.values():
        if id(resource) in known:
            known[id(resource)].gate.stop()


def states(resources: Mapping[str, Resource]) -> dict[str, ResourceState]:
    """What the gates of those resources do at this moment that are used on the running event loop, by name."""
    known = _guarded.get({})
    return {name: known[id(resource)].gate.state() for name, resource in resources.items() if id(resource) in known}


def _guard(resource: Resource) -> _Guarded:
    known = _guarded.get(None)
    if known is None:
        known = {}
        _guarded.set(known)
    if id(resource) not in known:
        known[id(resource)] = _Guarded(resource=resource, now=resource, gate=Gate(resource))
    return known[id(resource)]
