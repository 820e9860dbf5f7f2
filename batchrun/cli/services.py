"""The named services of an execution, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from batchrun.cli.text import counted, duration, local_time, one_line

if TYPE_CHECKING:
    from batchrun.core.executions import ResourceState


def service_now(state: ResourceState) -> str:
    """What a named service is doing."""
    limit = f" of at most {state['limit']:,}" if state["limit"] is not None else ""
    told = ", ".join([f"{state['in_flight']:,}{limit} in flight, {state['queued']:,} queued", *_rates(state)])
    if state.get("tokens"):
        told += f", {state['tokens']:,} tokens used"
    if state["throttled"]:
        told += f", {state['throttled']:,} of {counted(state['calls'], 'call')} throttled"
    if state["parked_at"] is not None:
        told += f", parked since {local_time(state['parked_at'])}: {one_line(str(state['parked_why']))}"
    return told + (f", parked {counted(state['opened'], 'time')} so far" if state["opened"] else "")


def services_of(record: Mapping[str, Any]) -> list[str]:
    """The services of an execution that does not run: their limits, and what came of their calls in all its runs."""
    figures: Mapping[str, Any] = record.get("resources") or {}
    limits: Mapping[str, Any] = (record.get("job") or {}).get("resources") or {}
    told = {name: [*_limits(limits.get(name) or {}), *_figures(figures.get(name) or {})] for name in {**limits, **figures}}
    return [f"{one_line(name)}: {', '.join(parts)}" for name, parts in told.items() if parts]


def _limits(limits: Mapping[str, Any]) -> list[str]:
    most = limits.get("max_concurrency")
    adaptive = ", adaptive" if limits.get("adaptive") else ""
    return [*([f"at most {most:,} in flight{adaptive}"] if most is not None else ["adaptive"] if adaptive else []), *_rates(limits)]


def _rates(limits: Mapping[str, Any]) -> list[str]:
    rates = {what: limits.get(f"{what}_per_minute") for what in ("requests", "tokens")}
    return [f"at most {_number(most)} {what} a minute" for what, most in rates.items() if most is not None]


def _figures(figures: Mapping[str, Any]) -> list[str]:
    if not figures.get("calls"):
        return []
    told = [counted(figures["calls"], "call")]
    if figures.get("throttled"):
        told.append(f"{figures['throttled']:,} of them throttled")
    if figures.get("opened"):
        told.append(f"parked {counted(figures['opened'], 'time')}, {duration(figures['parked_seconds'])} in all")
    return told


def _number(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,g}"
