"""What an execution keeps for a later run, and what an earlier run kept for it."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from batchrun.core.items import KeptNode, RestoredItem
from batchrun.core.job import Run
from batchrun.dispatch.counts import Counts
from batchrun.flow.budget import Spending, Spent
from batchrun.results import Journal, Recovered
from batchrun.results.files import explained
from batchrun.results.journal import NODES, epochs
from batchrun.results.kept import is_waiting, nodes_frame

_OPEN = bytes([1]) + bytes(255)  # done → not open, and the other way round


class Durability:
    """The journal of an execution in this process, and what is known from earlier ones.

    Args:
        folder: the execution's folder.
        run: the run policies.
        is_resumed: whether it goes on from an earlier run.

    Attributes:
        journal: null when the job does without.
        epoch: counts the processes that ran the execution with a journal.
        stale: nodes that were edited since; what is kept of them is not used.

    Raises:
        ExecutionError: another process runs the execution, or its journal cannot be read or written.
    """

    def __init__(self, folder: Path, run: Run, *, is_resumed: bool) -> None:
        self._lock = Journal(folder)  # also without a journal: who holds it runs the execution
        self.journal = self._lock if run.durable else None
        self.epoch = self._lock.epoch
        self.recovered = Recovered(folder) if is_resumed else None
        self.stale: frozenset[str] = frozenset()
        self._only: bytearray | None = None
        before = dict(self.recovered.spent) if self.recovered is not None else {}
        self._seconds_before: float = before.pop("seconds", 0.0)
        self._began = time.monotonic()
        self._timeout_seconds = run.timeout_seconds
        self.spending = Spending(run.budget, Spent(**before))

    def carry(self, header: Mapping[str, Any], write: Callable[[Journal], None]) -> None:
        """Have the journal of an execution that has not begun start with work of an earlier one, and go on from that.

        Args:
            header: what the journal says about it.
            write: writes it.

        Raises:
            ExecutionError: it cannot be written.
        """
        folder, journal = self._lock.folder.parent, self._lock
        with explained(journal.folder):
            for path in epochs(folder).values():  # of an attempt that broke off
                path.unlink()
        journal.epoch = 1
        journal.begin(header)
        write(journal)
        journal.end_epoch()
        self.epoch = journal.epoch
        self.recovered = Recovered(folder)
        self.recovered.read_open_items()

    @property
    def notes(self) -> list[str]:
        """What people should know about the journal that was read."""
        return self.recovered.dropped if self.recovered is not None else []

    @property
    def seconds_left(self) -> float | None:
        """How long the execution may still run; null: without limit."""
        if self._timeout_seconds is None:
            return None
        return max(self._timeout_seconds - self._seconds_before - (time.monotonic() - self._began), 0.0)

    def spent(self) -> Mapping[str, Any]:
        """What was spent in all runs so far; empty while nothing was."""
        spent = self.spending.spent
        seconds = {}
        if self._timeout_seconds is not None:  # whole seconds, or each commit would write them anew
            seconds = {"seconds": int(self._seconds_before + time.monotonic() - self._began)}
        return {**(spent._asdict() if spent != Spent() else {}), **seconds}

    def counts(self) -> Counts:
        """The items that are done."""
        done = self.recovered
        if done is None:
            return Counts()
        counted = {status: done.count(status) for status in ("completed", "failed", "skipped")}
        return Counts(**counted, reused=done.reused)

    def run_again(self, where: pl.Expr | None, absent: Mapping[str, pl.DataType], *, from_start: bool) -> bytes | None:
        """Choose failed items to run again, and only these: see `Recovered.failed`.

        Returns:
            What the journal must be told; null: no item matches.
        """
        if self.recovered is None:
            return None
        chosen = self.recovered.failed(where, absent)
        self._only = bytearray(len(self.recovered.done))
        for ordinal in chosen:
            self._only[ordinal] = 1
        return self.recovered.run_again(chosen, from_start=from_start) if chosen else None

    def run_first(self, ordinals: Sequence[int]) -> None:
        """Run those of these items that are not done, and no others."""
        done = self._done
        self._only = bytearray(max([len(done), *(ordinal + 1 for ordinal in ordinals)]))
        for ordinal in ordinals:
            self._only[ordinal] = ordinal >= len(done) or not done[ordinal]

    def wanted(self, total_items: int) -> bytearray | None:
        """1 for each item that is to be run, by ordinal; null when all are."""
        if self._only is not None:
            return self._only[:total_items].ljust(total_items, b"\0")
        return None if self.recovered is None else self._open(total_items)

    def left_over(self, total_items: int, loaded: int) -> bytearray:
        """1 for each item that is neither done nor among the first `loaded` ones that were wanted."""
        wanted, left = self.wanted(total_items), self._open(total_items)
        if wanted is None:
            return bytearray(loaded) + b"\1" * (total_items - loaded)
        end = bisect_left(range(len(wanted) + 1), loaded, key=lambda stop: wanted.count(1, 0, stop))
        handed_out = int.from_bytes(wanted[:end], "little")
        return bytearray((int.from_bytes(left, "little") & ~handed_out).to_bytes(total_items, "little"))

    @property
    def _done(self) -> bytearray:
        return self.recovered.done if self.recovered is not None else bytearray()

    def _open(self, total_items: int) -> bytearray:
        return self._done[:total_items].ljust(total_items, b"\0").translate(_OPEN)

    def restored(self, ordinal: int) -> RestoredItem | None:
        """Where an item goes on that was begun and is not done."""
        return self.recovered.item(ordinal) if self.recovered is not None else None

    def waits(self, ordinal: int) -> bool:
        """Whether an item that is not done waits for a person who has not decided yet."""
        if self.recovered is None or ordinal not in self.recovered.waiting:
            return False
        item = self.recovered.item(ordinal)
        return item is not None and any(map(is_waiting, item.nodes))

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        """Write to the journal what is known of nodes, once the result writer has ended.

        Raises:
            ExecutionError: it cannot be written.
        """
        if self.journal is not None and nodes:
            self.journal.append(NODES, nodes_frame(nodes))
            self.journal.sync()

    def close(self) -> None:
        """Let another process go on."""
        self._lock.close()
