"""Retries that are stopped, and code that is edited between them: from the terminal, each in a process of its own."""

from __future__ import annotations

import signal

from tests.e2e.conftest import Calls, Project, ended

ITEMS = 6
HELD = """\
from pathlib import Path


async def hold(size: int) -> int:
    import asyncio

    if not Path("broken").exists():
        with open("calls", "w") as pipe:
            pipe.write("\\n")
        while not Path("release").exists():
            await asyncio.sleep(0.01)
        return size
    raise LookupError("broken")
"""


def test_a_stopped_retry_is_finished_by_a_resume(project: Project, calls: Calls) -> None:
    """After Ctrl-C the chosen items that had not ended are open, and the others as they were; nothing of the choice is forgotten."""
    project.write("steps.py", HELD)
    job = (
        (project.folder / "job.yaml")
        .read_text()
        .replace("steps:tidy", "steps:hold")
        .replace("text:", "size:")
        .replace("item.text", "item.size")
    )
    project.write("job.yaml", job.replace("data.csv", "data.parquet").replace("run: {", "run: {parallelism: 2, grace_seconds: 0.1, "))
    project.table("data.parquet", {"id": range(ITEMS), "size": range(ITEMS)})
    broken = project.write("broken", "")
    assert project.batchrun("run", "job.yaml").code == 3
    broken.unlink()
    process = project.start("retry", "--where", "size > 1")
    calls.wait_for(2)
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    assert (project.record["status"], project.record["stop_reason"]) == ("paused", "signal")
    assert project.result["status"].to_pylist() == ["failed"] * 2 + ["cancelled"] * 4
    (project.folder / "release").touch()
    assert project.batchrun("resume").code == 3
    assert project.result["status"].to_pylist() == ["failed"] * 2 + ["completed"] * 4
    assert project.result["attempts"].to_pylist() == [1, 1, 2, 2, 2, 2]


EDITED = """\
from pathlib import Path


def note(text):
    with open("log", "a") as log:
        log.write(text + "\\n")


def first(size: int) -> str:
    note(f"first {size}")
    VERSION
    return f"VERSION {size}"


def second(first: str) -> str:
    note(f"second {first}")
    if not Path("mended").exists():
        raise LookupError("not mended")
    return first
"""
HOLDING = """\
    import time

    with open("calls", "w") as pipe:
        pipe.write("\\n")
    while not Path("release").exists():
        time.sleep(0.01)
"""
EDITED_JOB = """\
name: edited
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: first, type: python, call: "steps:first", inputs: {size: "{{ item.size }}"}}
    - {id: second, type: python, call: "steps:second", inputs: {first: "{{ nodes.first.output }}"}}
run: {parallelism: 1, retry: {max_attempts: 1}}
"""


def test_what_edited_nodes_made_before_is_gone_for_good(project: Project) -> None:
    """An edit that was accepted counts from then on, also where the edited node has not run since or has failed."""
    old, bad, new = (
        EDITED.replace("    VERSION\n", code).replace("VERSION", name)
        for code, name in (("", "old"), ("    raise LookupError\n", "bad"), ("", "new"))
    )
    project.write("job.yaml", EDITED_JOB)
    project.table("data.parquet", {"id": range(2), "size": range(2)})
    project.write("steps.py", old)
    assert project.batchrun("run", "job.yaml").code == 3
    project.write("steps.py", bad)
    refused = project.batchrun("retry")
    assert (refused.code, "--accept-changes" in refused.err) == (2, True)
    assert project.batchrun("retry", "--accept-changes", "--where", "source_item_id = 0").code == 3
    (project.folder / "mended").touch()
    assert project.batchrun("retry").code == 3
    log = ["first 0", "second old 0", "first 1", "second old 1", "first 0", "first 0", "first 1"]
    assert (project.folder / "log").read_text().splitlines() == log
    project.write("steps.py", new)
    assert project.batchrun("retry", "--accept-changes").code == 0
    assert (project.folder / "log").read_text().splitlines() == [*log, "first 0", "second new 0", "first 1", "second new 1"]
    assert project.result["output"].to_pylist() == ["new 0", "new 1"]


def test_an_accepted_edit_outlives_a_kill(project: Project, calls: Calls) -> None:
    """Killed before the edited node has run once, the retry is finished with the new code: what the old one made is not taken for it."""
    old = EDITED.replace("    VERSION\n", "").replace("VERSION", "old")
    new = EDITED.replace("    VERSION\n", HOLDING).replace("VERSION", "new")
    project.write("job.yaml", EDITED_JOB)
    project.table("data.parquet", {"id": range(2), "size": range(2)})
    project.write("steps.py", old)
    assert project.batchrun("run", "job.yaml").code == 3
    project.write("steps.py", new)
    process = project.start("retry", "--accept-changes")
    calls.wait_for(1)
    process.kill()
    ended(process)
    for name in ("mended", "release"):
        (project.folder / name).touch()
    assert project.batchrun("resume").code == 0
    assert project.result["output"].to_pylist() == ["new 0", "new 1"]
    assert project.result["attempts"].to_pylist() == [2, 2]
