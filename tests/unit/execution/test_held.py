"""What is left behind by a process that a call held for ever."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.core.errors import ExecutionError
from batchrun.core.job import Run, Workflow
from batchrun.execution.held import HELD_FILE, LANES_FILE, LaneFile, Watch, end_when_held, held_items, limit_seconds, marked, why_held
from batchrun.nodes.template import TemplateNode
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan

DUMP = """\
Timeout (0:11:00)!
Thread 0x00007fba0d0fd6c0 (most recent call first):
  File "/usr/lib/python3.11/re/__init__.py", line 171 in fullmatch
  File "/home/ada/my steps.py", line 5 in match
  File "/site-packages/batchrun/nodes/python.py", line 207 in <lambda>
  File "/site-packages/batchrun/engine/calls.py", line 76 in run_stretch
  File "/site-packages/batchrun/engine/lane.py", line 155 in _main
  File "/usr/lib/python3.11/threading.py", line 982 in run

Thread 0x00007fba0e0ff6c0 (most recent call first):
  File "/site-packages/batchrun/nodes/python.py", line 207 in <lambda>
  File "/site-packages/batchrun/engine/calls.py", line 76 in run_stretch

Thread 0x00007fba0e0ff6c1 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/site-packages/batchrun/results/writer.py", line 197 in _work

Thread 0x00007fba0f827b80 (most recent call first):
  File "/usr/lib/python3.11/selectors.py", line 468 in select
  File "/usr/lib/python3.11/asyncio/base_events.py", line 1884 in _run_once
  File "/site-packages/batchrun/execution/run.py", line 199 in _dispatch_all
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    return tmp_path


@pytest.fixture
def _ours() -> Iterator[None]:
    """This process belongs to batchrun for a while."""
    end_when_held(60)
    yield
    end_when_held(None)


def ended(folder: Path, *ordinals: int, dump: str = DUMP) -> None:
    """Leave behind what a process does that was ended."""
    lanes = LaneFile(folder / LANES_FILE)
    for ordinal in ordinals:
        lanes.take()[0] = ordinal
    (folder / HELD_FILE).write_text(dump)


def plan(*timeouts_seconds: float | None) -> Plan:
    nodes = [TemplateNode(id=f"n{position}", template="", timeout_seconds=seconds) for position, seconds in enumerate(timeouts_seconds)]
    return compile_workflow(Workflow(nodes=tuple(nodes), output="done"), Surroundings(columns=()))


def test_lanes_are_marked_in_a_file_that_anybody_can_read(tmp_path: Path) -> None:
    """The last item of each lane is in the file at once, without a call to write it: nothing can be called at the end."""
    path = tmp_path / "lanes"
    lanes = LaneFile(path)
    assert marked(path) == []
    first, second, unused = lanes.take(), lanes.take(), lanes.take()
    first[0], second[0], first[0] = 3, 2**40, 0
    assert marked(path) == [0, 2**40]
    LaneFile(path)
    unused[0] = 7  # a thread that an earlier run left behind
    assert marked(path) == []


def test_more_lanes_than_slots_do_no_harm(tmp_path: Path) -> None:
    """Whoever tunes the parallelism up and down all day runs out of slots, and of nothing else."""
    lanes = LaneFile(tmp_path / "lanes")
    slots = [lanes.take() for _ in range(5000)]
    for ordinal, slot in enumerate(slots):
        slot[0] = ordinal
    assert marked(tmp_path / "lanes") == [*range(4095), 4999]


def test_a_file_of_lanes_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """A copy of a folder may have been made at any moment."""
    LaneFile(tmp_path / "lanes").take()[0] = 5
    (tmp_path / "lanes").write_bytes((tmp_path / "lanes").read_bytes()[:13])
    assert marked(tmp_path / "lanes") == [5]
    assert marked(tmp_path / "elsewhere") == []


def test_the_reason_names_the_functions_that_nodes_called_and_the_items(folder: Path) -> None:
    """Among the threads of the process, only those that were in a call of a node can have held it."""
    ended(folder, 17, 4)
    text = why_held(folder)
    assert text is not None
    first, second = text.splitlines()
    assert first.endswith("after 660 s: match (/home/ada/my steps.py:5) or a function that is not written in Python")
    assert second == "the items at positions 4, 17 were in threads then: batchrun resume runs these first, in processes"
    assert held_items(folder) == (4, 17)


def test_the_last_of_several_ends_counts(folder: Path) -> None:
    """A retry may have been ended after the run was."""
    ended(folder, 4, dump=DUMP + DUMP.replace("0:11:00", "0:00:01.500000").replace("match", "search"))
    text = why_held(folder)
    assert text is not None
    assert "after 1.5 s: search" in text
    assert "match" not in text


def test_a_process_that_was_killed_was_not_held(folder: Path) -> None:
    """The file is there from the first item on, and empty until the end that it tells of."""
    ended(folder, 4, dump="")
    assert why_held(folder) is None
    assert held_items(folder) == ()


async def test_what_is_left_behind_stays_until_its_items_have_run(folder: Path) -> None:
    """A retry of other items in between must not make a resume forget which items to keep away from threads."""
    ended(folder, 4)
    assert Watch(folder, 60, keeps=True).lanes is None
    assert held_items(folder) == (4,)
    watch = Watch(folder, 60, keeps=False)
    assert watch.lanes is not None
    assert why_held(folder) is None
    with watch.armed():
        assert (folder / HELD_FILE).exists()
    assert list((folder / "journal").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    """The disk is full, or read-only: that is said like everywhere else."""
    with pytest.raises(ExecutionError, match="journal/lanes"):
        Watch(tmp_path, 60, keeps=False)


def test_only_our_own_processes_are_watched() -> None:
    """A program that uses batchrun is not ended by it."""
    assert limit_seconds(plan(5), Run()) is None


def test_what_is_loaded_in_our_own_processes_is_not_looked_through_for_garbage() -> None:
    """It stays to the end, and going through all of it again takes longer than a small run."""
    end_when_held(60)
    kept = gc.get_freeze_count()
    end_when_held(None)
    assert (kept > 0, gc.get_freeze_count()) == (True, 0)


@pytest.mark.usefixtures("_ours")
def test_a_process_is_ended_well_after_the_last_deadline_only() -> None:
    """A call that may still come back in time is waited for, and one without a deadline for ever."""
    assert limit_seconds(plan(5, 90), Run(item_timeout_seconds=None)) == 150
    assert limit_seconds(plan(5, 900), Run(item_timeout_seconds=600)) == 660
    assert limit_seconds(plan(5, None), Run(item_timeout_seconds=600)) == 660
    assert limit_seconds(plan(5, None), Run(item_timeout_seconds=None)) is None
    assert limit_seconds(plan(5), Run(durable=False)) is None
