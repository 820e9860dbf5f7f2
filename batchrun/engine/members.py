"""Items that wait for a call that is made for several of them, and the call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from batchrun.engine.attempt import SharedAttempt, SharedError
from batchrun.engine.batch_calls import RunningCall
from batchrun.workflows.scope import Scope


class Member:
    """An item that waits for its output.

    Attributes:
        scope: of the item. It does not change under a call that counts: an item that leaves one before its end has ended, too.
        attempt: told when the call begins and ends.
        joined_at: when it came, by the event loop's clock.
        answer: done when there is an output or an error, cancelled when the item has gone.
        call: the call that was made for it last.
    """

    __slots__ = ("_error", "_output", "answer", "attempt", "call", "joined_at", "scope")

    def __init__(self, scope: Scope, loop: asyncio.AbstractEventLoop) -> None:
        self.scope = scope
        self.attempt: SharedAttempt = scope.sharing
        self.joined_at = loop.time()
        self.answer: asyncio.Future[None] = loop.create_future()
        self.call: SharedCall | None = None
        self._output: Any = None
        self._error: BaseException | None = None

    def succeed(self, output: Any) -> None:
        """There is an output."""
        self._output = output
        self.answer.set_result(None)

    def fail(self, error: BaseException) -> None:
        """There is an error, perhaps for others, too."""
        self._error = error
        self.answer.set_result(None)

    def taken(self) -> Any:
        """The output. Raises the error if there is one, as a `SharedError`."""
        if self._error is not None:
            raise SharedError(self._error)
        return self._output


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
        return [member for member in self.members if not member.answer.done()]
