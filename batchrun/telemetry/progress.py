"""Progress on the terminal: a bar for people, plain lines for logs."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from tqdm import tqdm

from batchrun.core.executions import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS_BETWEEN_LINES = 10.0
_UNSHOWN = (OSError, ValueError, RuntimeError)  # the disk is full, nobody reads; it is closed; a signal came while it was written to


class Display(Protocol):
    """Shows the progress of one execution."""

    def update(self, progress: Progress) -> None:
        """Show how far it is."""

    def note(self, text: str) -> None:
        """Show a line of text."""

    def close(self, progress: Progress) -> None:
        """Show the end."""


class _Stream:
    """A stream that may be closed while the execution goes on: what cannot be shown is not shown."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        with suppress(*_UNSHOWN):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(*_UNSHOWN):
            self._stream.flush()


class Bar:
    """A tqdm bar: items, failed items, rate and remaining time. Items that were done before it was there do not count for the rate."""

    def __init__(self, name: str, total: int, restored: int, stream: TextIO) -> None:
        shown = _Stream(stream)
        self._bar = tqdm(total=total, initial=restored, desc=name, unit="item", file=shown, smoothing=0.1, dynamic_ncols=True, leave=True)

    def update(self, progress: Progress) -> None:
        """Show how far it is."""
        self._bar.set_postfix(failed=progress.failed_items, open=progress.open_items, refresh=False)
        self._bar.update(progress.processed_items - self._bar.n)

    def note(self, text: str) -> None:
        """Show a line of text above the bar."""
        self._bar.write(text, file=self._bar.fp)

    def close(self, progress: Progress) -> None:
        """Leave the bar as it is at the end."""
        self.update(progress)
        self._bar.close()


class Lines:
    """A line every ten seconds, for files and pipes."""

    def __init__(self, name: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._stream = _Stream(stream)
        self._clock = clock
        self._next = clock() + _SECONDS_BETWEEN_LINES

    def update(self, progress: Progress) -> None:
        """Write a line if the last one is long enough ago."""
        if self._clock() >= self._next:
            self._next = self._clock() + _SECONDS_BETWEEN_LINES
            left = progress.remaining_seconds
            self._write(progress, f", {left:,.0f} s left" if left else "")

    def note(self, text: str) -> None:
        """Write a line of text."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self, progress: Progress) -> None:
        """Write the last line."""
        self._write(progress, "")

    def _write(self, progress: Progress, estimate: str) -> None:
        self.note(
            f"{self._name}: {progress.processed_items:,} of {progress.total_items:,} items, {progress.failed_items:,} failed, "
            f"{progress.items_per_second:,.1f} items/s{estimate}"
        )


class Nothing:
    """Shows nothing."""

    def update(self, progress: Progress) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self, progress: Progress) -> None:
        """Show nothing."""


def display(name: str, total: int, *, restored: int = 0, quiet: bool = False) -> Display:
    """What fits: nothing when quiet, a bar in a terminal or a notebook, else lines. Everything goes to standard error.

    Args:
        name: of the job.
        total: how many items there are.
        restored: how many of them were done before.
        quiet: show nothing.
    """
    if quiet:
        return Nothing()
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        return Bar(name, total, restored, sys.stderr)
    return Lines(name, sys.stderr)
