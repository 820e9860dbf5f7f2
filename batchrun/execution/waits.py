"""What the items of an execution have spent their time with, from samples of what they are doing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

_LARGEST_SHARE = 0.01


class Waits:
    """Adds up the time that open items wait, by what they wait for.

    Five samples a second, or fewer: with many open items, looking at all of them takes at most a hundredth of the time.

    Args:
        clock: seconds.

    Attributes:
        seconds: time of all items together, by what they waited for; two items that wait for a second count as two.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: Mapping[str, float] = {}
        self._clock = clock
        self._before: Mapping[str, int] = {}
        self._last = self._next = clock()

    def look(self, waiting_for: Callable[[], Mapping[str, int]]) -> None:
        """Take a sample if it is time for one: open items by what they wait for."""
        began = self._clock()
        if began < self._next:
            return
        now = waiting_for()
        ended = self._clock()
        elapsed, self._last = began - self._last, began
        added = {what: elapsed * (self._before.get(what, 0) + count) / 2 for what, count in now.items()}
        self.seconds = {what: self.seconds.get(what, 0.0) + seconds for what, seconds in added.items() if seconds or what in self.seconds}
        self._before = now
        self._next = ended + (ended - began) / _LARGEST_SHARE


def added_waits(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """The waits of all runs of an execution, longest first; those of a run that was killed are not known."""
    added = Counter(before) + Counter({what: round(seconds, 3) for what, seconds in now.items()})
    return {what: round(seconds, 3) for what, seconds in added.most_common()}
