"""Changing limits of an execution while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from batchrun.config import effective_job, load_job
from batchrun.core.errors import JobError, known_values

_TUNABLE = "run.parallelism and, under resources.NAME, max_concurrency, requests_per_minute and tokens_per_minute"
_LIMITS = ("max_concurrency", "requests_per_minute", "tokens_per_minute")
_SHOWN_CHARS = 200


class Tuning(NamedTuple):
    """What a running execution is to change.

    Attributes:
        job: its effective job from then on.
        parallelism: items worked on at once; null: as it is.
        resources: by the name of each resource, which of its limits change to what; null stands for no limit.
    """

    job: Mapping[str, Any]
    parallelism: int | None
    resources: Mapping[str, Mapping[str, Any]]


def tuning(job: Mapping[str, Any], folder: Path, settings: Mapping[str, Any] | Sequence[str]) -> Tuning:
    """Check what is to change.

    Args:
        job: the effective job as it is.
        folder: where its relative paths start.
        settings: the new values, such as `["run.parallelism=10"]`.

    Raises:
        JobError: a value is refused, or is not one that can change while items run.
    """
    try:
        before, after = (effective_job(load_job(job, overrides, folder=folder)) for overrides in ((), settings))
    except RecursionError as error:  # it would end the execution of whoever is asked
        raise JobError([f"{shown(settings)}: the value is nested too deeply"]) from error
    parallelism = after["run"]["parallelism"]
    run = {**before["run"], "parallelism": parallelism}
    limits = {name: _changed(resource, after["resources"].get(name, resource)) for name, resource in before["resources"].items()}
    resources = {name: {**resource, **limits[name]} for name, resource in before["resources"].items()}
    if {**before, "run": run, "resources": resources} != after:
        known = before["resources"]
        unknown = (
            f'unknown resource "{name}"; {known_values(name, known, kind="resources")}; '
            for name in after["resources"]
            if name not in known
        )
        why = f"{''.join(unknown)}while items run, only {_TUNABLE} can change; pause, and set others with batchrun resume"
        raise JobError([f"{shown(settings)}: {why}"])
    return Tuning(
        job=after,
        parallelism=parallelism if parallelism != before["run"]["parallelism"] else None,
        resources={name: changed for name, changed in limits.items() if changed},
    )


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The limits of a resource that are different."""
    return {limit: after[limit] for limit in _LIMITS if after[limit] != before.get(limit)}


def shown(settings: Mapping[str, Any] | Sequence[str]) -> str:
    """The new values, for people."""
    values = (
        [f"{path}={'null' if value is None else value}" for path, value in settings.items()] if isinstance(settings, Mapping) else settings
    )
    text = values if isinstance(values, str) else ", ".join(values)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
