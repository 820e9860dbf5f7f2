"""Items that wait for a call that is made for several of them, and the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from batchrun.engine.attempt import SharedAttempt, SharedError
from batchrun.engine.batch_calls import RunningCall


class Member:
    """An item that waits for its output.

    Attributes:
        scope: of the item. It does not change under a call that counts: an item that leaves one before its end has ended, too.
        attempt: told when the call begins and ends.
        joined_at: when it came, by the event loop's clock.
        on_answer: called on the event loop when there is an output or an error.
        recorded: its inputs, as JSON, for whoever is called.
        is_done: there is, or the item has gone.
        output: what the call gave for it.
        error: why it gave nothing, perhaps for others, too.
        call: the call that was made for it last.
    """

    __slots__ = ("attempt", "call", "error", "is_done", "joined_at", "on_answer", "output", "recorded", "scope")

    def __init__(self, scope: Any, joined_at: float, on_answer: Callable[[Member], object], recorded: bytes | None = None) -> None:
        self.scope = scope
        self.attempt: SharedAttempt = scope.sharing
        self.joined_at = joined_at
        self.on_answer = on_answer
        self.recorded = recorded
        self.is_done = False
        self.output: Any = None
        self.error: BaseException | None = None
        self.call: SharedCall | None = None

    def succeed(self, output: Any) -> None:
        """There is an output."""
        self.output = output
        self.is_done = True
        self.on_answer(self)

    def fail(self, error: BaseException) -> None:
        """There is an error, perhaps for others, too."""
        self.error = error
        self.is_done = True
        self.on_answer(self)

    def taken(self) -> Any:
        """The output. Raises the error if there is one, as a `SharedError`."""
        if self.error is not None:
            raise SharedError(self.error)
        return self.output


class SharedCall:
    """A call that is being made.

    Attributes:
        members: the items it is made for.
        ends_at: engine clock when it has taken too long.
        timer: set for the first deadline, of the call or of one of its items.
    """

    __slots__ = ("ends_at", "members", "running", "timer")

    def __init__(self, members: Sequence[Member], ends_at: float) -> None:
        self.members = members
        self.ends_at = ends_at
        self.running: RunningCall
        self.timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> list[Member]:
        """The items that still want to know how it ends."""
        return [member for member in self.members if not member.is_done]
