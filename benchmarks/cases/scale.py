"""From ten thousand to ten million items: time per item and memory must not grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.jobs import make_dataset
from benchmarks.model import Aim, Case, Variant

_JOB = "benchmarks.cases.dispatch:job"
_SIZES = {"10,000": 10_000, "100,000": 100_000, "1,000,000": 1_000_000}


@contextmanager
def files(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    """A dataset; variants of another size make their own."""
    yield {"dataset": str(make_dataset(folder / "items.parquet", min(items, 10_000)))}


def case(sizes: dict[str, int], full: dict[str, int]) -> Case:
    """The case: each size is a variant, and the second is what the others are compared with."""
    names = list(sizes)
    base, largest = names[min(1, len(names) - 1)], [names[-1], *full]
    return Case(
        group="scale",
        name="scale",
        about="the dispatch job over more and more items; what an execution costs apart from them is taken off",
        baseline=base,
        variants=(
            *(Variant(name=name, call=_JOB, items=size) for name, size in sizes.items()),
            *(Variant(name=name, call=_JOB, items=size, is_for_full=True) for name, size in full.items()),
        ),
        files=files,
        items=sizes[base],
        quick_items=1_000,
        aims=(
            *(Aim(variant=name, at_most=1.1, against=base) for name in largest),
            *(Aim(variant=name, at_most=1.2, against=base, of="memory") for name in largest),
        ),
    )


CASES = (case(_SIZES, {"10,000,000": 10_000_000}),)
