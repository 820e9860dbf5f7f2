"""A job of two nodes whose second one holds some items for as long as a test wants, and what is shown of it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batchrun.cli.item_page import dataset_items
from batchrun.client import Execution
from batchrun.results import find_item
from tests.e2e.conftest import Calls, Project, ended

ITEMS = 12
AT_ONCE = 6
"""So many items end at once, one of them with an error; the others are held."""

PARALLELISM = 4
STEPS = r"""
import asyncio
from pathlib import Path


async def fetch(size: int) -> dict:
    return {"size": size, "text": "one line\nand \x1b[31manother"}


async def judge(page: dict) -> str:
    if page["size"] == 1:
        raise ValueError("nothing can be\nmade of \x1b[2J this")
    if page["size"] >= 6:
        with open("calls", "w") as pipe:
            pipe.write("\n")
        while not Path("release").exists() and not Path(f"release-{page['size']}").exists():
            await asyncio.sleep(0.01)
    return f"{page['size']} is old"
"""
JOB = """\
name: held
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: fetch, type: python, call: "steps:fetch", inputs: {size: "{{ item.size }}"}}
    - {id: judge, type: python, call: "steps:judge", inputs: {page: "{{ nodes.fetch.output }}"}}
run: {parallelism: 4, grace_seconds: 0.1, retry: {max_attempts: 1}}
output: {path: runs, keep: [size]}
"""


def write(project: Project) -> None:
    """Make it a project with this job."""
    project.write("job.yaml", JOB)
    project.write("steps.py", STEPS)
    project.write("data.csv", "id,size\n" + "".join(f"item {size},{size}\n" for size in range(ITEMS)))


def release(project: Project) -> None:
    """Let all items end."""
    (project.folder / "release").touch()


@contextmanager
def held(project: Project, calls: Calls, *arguments: str, earlier_calls: int = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the execution, once the items that end at once have done so and each worker holds another one."""
    process = project.start(*(arguments or ("run", "job.yaml")))
    try:
        calls.wait_for(earlier_calls + PARALLELISM)
        until(lambda: Execution(project.executions[0]).progress.processed_items >= AT_ONCE)
        yield process
    finally:
        process.kill()
        ended(process)


def kill(process: subprocess.Popen[str]) -> None:
    """End it without a chance to do anything."""
    process.kill()
    process.wait()


def until(is_so: Callable[[], bool]) -> None:
    """Return when it is so; the test itself runs out of time when it never is."""
    while not is_so():
        time.sleep(0.02)


def is_kept(project: Project, id: str) -> bool:
    """Whether the journal has the first node of an item that has not ended, or its row."""
    (folder,) = project.executions
    return find_item(folder, id, from_journal=True, dataset=dataset_items(folder, id)).row["status"] != "pending"


def shown(project: Project, *arguments: str) -> dict[str, Any]:
    """What `batchrun show --json` prints."""
    last = project.batchrun("show", *arguments, "--json")
    assert (last.code, last.err) == (0, ""), last.err
    content: dict[str, Any] = json.loads(last.out)
    return content


def item(project: Project, id: str, *arguments: str) -> dict[str, Any]:
    """What `batchrun show --item` prints for programs."""
    return shown(project, *arguments, "--item", id)


def page(project: Project, *arguments: str) -> str:
    """What `batchrun show` prints for people: nothing in it can do anything to a terminal."""
    last = project.batchrun("show", *arguments)
    assert (last.code, last.err) == (0, ""), last.err
    assert all(character.isprintable() or character == "\n" for character in last.out)
    return last.out


def fields(page: str) -> dict[str, list[str]]:
    """The lines of a page by the label in front of them."""
    found: dict[str, list[str]] = {}
    label = ""
    for line in page.partition("\n\n")[0].splitlines():
        label = line[:11].strip() or label
        found.setdefault(label, []).append(line[11:])
    return found


def cells(page: str) -> list[list[str]]:
    """The lines of a page, cut into the cells of tables."""
    return [re.split(" {2,}", line) for line in page.splitlines()]


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file in a folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
