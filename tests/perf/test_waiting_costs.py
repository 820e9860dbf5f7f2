"""What an item costs in function calls where it runs on the event loop, or shares calls with others."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from batchrun import Batch, Job, Workflow
from batchrun.nodes.python import PythonNode
from benchmarks.cases.workflows import later
from benchmarks.functions import clean_later, label_later, score_later, wait, weigh_many
from benchmarks.jobs import chain, executed, job_of, make_dataset
from tests.perf.test_costs import FEW, HAND_OVER, MANY, PACKAGE, advice

MAX_CHAINED_CALLS = 35
MAX_WAITING_CALLS = 26
MAX_FLOW_CALLS = 172
MAX_BATCHED_CALLS = 32


def chained(dataset: Path, folder: Path) -> Job:
    """Three async nodes that do not wait."""
    return job_of(chain(clean_later, score_later, label_later), dataset, folder)


def waiting(dataset: Path, folder: Path) -> Job:
    """One async node that waits."""
    return job_of(Workflow(nodes=(PythonNode(id="wait", call=wait, inputs={"n": "{{ item.id }}"}),)), dataset, folder, parallelism=200)


def flowing(dataset: Path, folder: Path) -> Job:
    """Three async nodes that do not wait, called in a Python workflow."""
    return job_of(later, dataset, folder)


def batched(dataset: Path, folder: Path) -> Job:
    """One node, called for 64 items at a time."""
    node = PythonNode(id="weigh", call=weigh_many, inputs={"text": "{{ item.body }}"}, batch=Batch(max_items=64))
    return job_of(Workflow(nodes=(node,), output_schema="float64"), dataset, folder)


def calls_of(job: Job) -> Counter[str]:
    """Calls of functions of batchrun, in all threads, while a job runs."""
    counts: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _called: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(PACKAGE) and file[len(PACKAGE) + 1 :] not in HAND_OVER:
            counts[f"{file[len(PACKAGE) + 1 :]}:{frame.f_code.co_qualname}"] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        executed(job)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return counts


@pytest.mark.parametrize(
    ("job", "most"),
    [(chained, MAX_CHAINED_CALLS), (waiting, MAX_WAITING_CALLS), (flowing, MAX_FLOW_CALLS), (batched, MAX_BATCHED_CALLS)],
)
def test_an_item_on_the_event_loop_pays_for_nothing_it_does_not_need(job: Callable[[Path, Path], Job], most: int, tmp_path: Path) -> None:
    """A scope, a timer, a task or a future for each item costs more than the rest of it, and none of them shows in a test of behaviour."""
    few, many = (make_dataset(tmp_path / f"{rows}.parquet", rows) for rows in (FEW, MANY))
    executed(job(few, tmp_path))  # what is done once is done
    before, after = calls_of(job(few, tmp_path)), calls_of(job(many, tmp_path))
    calls = {place: whole for place, count in after.items() if (whole := int((count - before[place]) / (MANY - FEW) + 0.1))}
    found = sum(calls.values())
    details = "\nCalls per item:\n" + "\n".join(f"{count:4} {place}" for place, count in sorted(calls.items()))
    assert found <= most, advice("function calls", found, most, details)
