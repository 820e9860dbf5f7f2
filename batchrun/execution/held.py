"""Calls that hold the interpreter lock and never come back, such as some regular expressions: found, told, and made elsewhere.

While such a call goes on nothing else in the process can run, so nothing written in Python can end it. A thread of `faulthandler`
needs no interpreter: when the event loop has not set it anew for too long, it writes down where each thread is and ends the
process. Which items were in lanes then is in a small file mapped into memory. A resume runs these items first, in processes.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import mmap
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from batchrun.core.executions import Stop
from batchrun.core.job import Run
from batchrun.results.files import explained
from batchrun.workflows.plan import Plan

HELD_FILE = "journal/held.txt"
"""Where each thread was when the process was ended; empty or not there: it was not."""

LANES_FILE = "journal/lanes"
"""By lane: the ordinal of the item it began last; negative: none."""

ONLY_HELD = Stop("user", "only items that may hold the interpreter were run, and others have not ended: to run these, resume")
"""Why an execution ends that was to run these first."""

_SLOTS = 4096  # more than threads that anybody starts
_ORDINAL_BYTES = 8
_LOOK_SECONDS = 1.0
_MARGIN_SECONDS = 60.0
_MOST_NAMED = 10
_ENDED = "a call held the interpreter and did not come back, so its process was ended"

# A shell that does nothing until this process has ended, for who looks at the terminal: `faulthandler` writes to one file only.
_TELL = 'read -r _; [ ! -s "$1" ] || echo "$0" >&2'

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')
_OWN = re.compile(r"[/\\]batchrun[/\\]\w+[/\\]\w+\.py$")
_CALLING = re.compile(r"[/\\]batchrun[/\\]nodes[/\\](python|callers|lists|classes|placement)\.py$")
_RUNNING = re.compile(r"[/\\]asyncio[/\\]\w+\.py$")  # between a node and an async function that it runs in a thread
_TIME = re.compile(r"Timeout \((\d+):(\d+):([\d.]+)\)!")


class _Process:
    """This process.

    Attributes:
        margin_seconds: how long after the last deadline of any call it may be ended; null: never, it is not ours.
    """

    margin_seconds: float | None = None


class Frame(NamedTuple):
    """A line in a traceback."""

    file: str
    line: str
    name: str


class LaneFile:
    """The file in which lanes mark what they are at. It outlives the process, whatever ends that.

    Args:
        path: of the file; one that is there is replaced.

    Raises:
        ExecutionError: it cannot be written.

    Example:
        >>> slot = LaneFile(Path("lanes")).take()  # doctest: +SKIP
        >>> slot[0] = 17  # doctest: +SKIP
        >>> marked(Path("lanes"))  # doctest: +SKIP
        [17]
    """

    def __init__(self, path: Path) -> None:
        with explained(path):
            path.unlink(missing_ok=True)  # threads of an earlier run of this process may still be at that one
            path.write_bytes(struct.pack("=q", -1) * _SLOTS)  # all of it: a page that no disk has room for would crash the process
            with path.open("r+b") as file:
                self._slots = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self._taken = 0

    def take(self) -> memoryview:
        """A slot that takes one number: `slot[0] = ordinal`. From the last one on, lanes share it."""
        place = min(self._taken, _SLOTS - 1)
        self._taken += 1
        return self._slots[place : place + 1]


class Watch:
    """Ends this process when a call holds it, as long as it is armed. Made on the event loop that is watched.

    Args:
        folder: the execution's folder.
        limit_seconds: how long the event loop may be held up; null: nothing is watched.
        keeps: what an earlier process left behind stays: this run does not replace it.

    Attributes:
        lanes: takes what lanes are at; null: nobody asks.

    Raises:
        ExecutionError: the files cannot be written.
    """

    def __init__(self, folder: Path, limit_seconds: float | None, *, keeps: bool) -> None:
        self._limit_seconds = limit_seconds
        self._folder = folder
        self._keeps = keeps and _has_content(folder / HELD_FILE)
        if not self._keeps:
            forget(folder)
        self.lanes = None if limit_seconds is None or self._keeps else LaneFile(folder / LANES_FILE)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Watch for as long as the block lasts."""
        if self._limit_seconds is None:
            yield
            return
        path = self._folder / HELD_FILE
        with explained(path):
            file = path.open("ab")
        with file, _telling(self._folder, is_told=self._keeps):
            look = Look(self._limit_seconds, file)
            try:
                yield
            finally:
                look.close()
                if not self._keeps:
                    forget(self._folder)


class Look:
    """Sets the end of the process anew again and again, for as long as the event loop runs."""

    def __init__(self, limit_seconds: float, file: BinaryIO) -> None:
        self._limit_seconds = limit_seconds
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._look)

    def _look(self) -> None:
        faulthandler.dump_traceback_later(self._limit_seconds, file=self._file, exit=True)
        self._next = self._loop.call_later(min(_LOOK_SECONDS, self._limit_seconds / 4), self._look)

    def close(self) -> None:
        """Look no more: the process is not ended."""
        self._next.cancel()
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _telling(folder: Path, *, is_told: bool) -> Iterator[None]:
    """Have it said on the terminal when this process is ended within the block."""
    teller, text = None, f"{folder}: {_ENDED}; batchrun show says where it was, batchrun resume goes on"
    with suppress(OSError):  # no memory, or too many processes: then it is not said
        if not is_told:
            command = ["/bin/sh", "-c", _TELL, text, str(folder / HELD_FILE)]
            teller = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    try:
        yield
    finally:
        if teller is not None:
            teller.kill()  # nothing happened; children that functions have forked may keep its pipe open, and itself waiting
            teller.communicate()


def forget(folder: Path) -> None:
    """Remove what such an end leaves behind in the folder of an execution.

    Raises:
        ExecutionError: it cannot be removed.
    """
    for path in (folder / HELD_FILE, folder / LANES_FILE):
        with explained(path):
            path.unlink(missing_ok=True)


def end_when_held(margin_seconds: float | None = _MARGIN_SECONDS) -> None:
    """Say that this process is there to run executions and for nothing else: it may be ended when a call holds it.

    What is loaded by now stays to its end, and is not looked through for garbage any more.

    Args:
        margin_seconds: how long after the last deadline of any call; null: it is not there for that any more.
    """
    _Process.margin_seconds = margin_seconds
    (gc.unfreeze if margin_seconds is None else gc.freeze)()


def limit_seconds(plan: Plan, run: Run) -> float | None:
    """How long the event loop of this process may be held up; null: for ever, as the process is not ours, or a call may take for ever."""
    margin = _Process.margin_seconds
    if margin is None or not run.durable:
        return None
    longest = 0.0
    for step in plan.steps:
        deadlines = [seconds for seconds in (step.timeout_seconds, run.item_timeout_seconds) if seconds is not None]
        if not deadlines:
            return None
        longest = max(longest, min(deadlines))
    return longest + margin


def held_items(folder: Path) -> tuple[int, ...]:
    """The items that lanes had begun last when a process was ended as a call held it, by ordinal; some may be done.

    Args:
        folder: the execution's folder.

    Raises:
        ExecutionError: the file cannot be read.
    """
    return tuple(marked(folder / LANES_FILE)) if _has_content(folder / HELD_FILE) else ()


def marked(path: Path) -> list[int]:
    """What is marked in a file of lanes, ascending; nothing when it is not there.

    Raises:
        ExecutionError: it cannot be read.
    """
    if not path.exists():
        return []
    with explained(path):
        content = path.read_bytes()
    whole = len(content) // _ORDINAL_BYTES * _ORDINAL_BYTES
    return sorted({ordinal for (ordinal,) in struct.iter_unpack("=q", content[:whole]) if ordinal >= 0})


def why_held(folder: Path) -> str | None:
    """Why the process of an execution was ended, for people; null: not because a call held it.

    Args:
        folder: the execution's folder.

    Raises:
        ExecutionError: the files cannot be read.
    """
    path = folder / HELD_FILE
    if not _has_content(path):
        return None
    with explained(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    _, timeout, dump = text.rpartition("Timeout (")  # the last one, if there are several
    time = _TIME.match(timeout + dump)
    seconds = f", after {int(time[1]) * 3600 + int(time[2]) * 60 + float(time[3]):g} s" if time else ""
    places = list(dict.fromkeys(place for thread in dump.split("\n\n") if (place := _place(thread)) is not None))
    where = f": {' or '.join(places[:_MOST_NAMED])}" if places else ""
    return f"{_ENDED}{seconds}{where}{_items(held_items(folder))}"


def notes_of(items: tuple[int, ...]) -> tuple[str, ...]:
    """What people should know of a run of items that may hold the interpreter; nothing when there are none."""
    return (f"{_ENDED}: the items that were in threads then, at most {len(items):,}, run first, in processes",) if items else ()


def _place(thread: str) -> str | None:
    """The function that a node calls in a thread; null: the thread calls none."""
    frames = [Frame(**found.groupdict()) for line in thread.splitlines() if (found := _FRAME.fullmatch(line))]
    own = next((index for index, frame in enumerate(frames) if _OWN.search(frame.file)), None)
    if own is None or not _CALLING.search(frames[own].file):
        return None
    called = next((frame for frame in reversed(frames[:own]) if not _RUNNING.search(frame.file)), None)
    return f"{called.name} ({called.file}:{called.line})" if called is not None else "a function that is not written in Python"


def _items(ordinals: tuple[int, ...]) -> str:
    if not ordinals:
        return ""
    named = ", ".join(f"{ordinal:,}" for ordinal in ordinals[:_MOST_NAMED])
    more = f" and {len(ordinals) - _MOST_NAMED:,} more" if len(ordinals) > _MOST_NAMED else ""
    is_one = len(ordinals) == 1
    return (
        f"\nthe item at position {named} was in a thread then: batchrun resume runs it first, in a process"
        if is_one
        else f"\nthe items at positions {named}{more} were in threads then: batchrun resume runs these first, in processes"
    )


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
