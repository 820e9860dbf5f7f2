"""What is measured: one file per group of cases."""

from __future__ import annotations

from importlib import import_module

from benchmarks.model import Case

GROUPS = (
    *("dispatch", "asynchronous", "waiting", "processes", "http", "reading", "writing", "scale"),
    *("resuming", "starting", "batching", "durability", "workflows"),
)


def cases(only: tuple[str, ...] = ()) -> list[Case]:
    """All cases, or those of some groups. Loads no more than it must."""
    return [case for group in only or GROUPS for case in import_module(f"benchmarks.cases.{group}").CASES]
