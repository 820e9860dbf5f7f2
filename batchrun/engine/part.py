"""One part of a call, and what is raised in a call whose item cannot go on because of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from batchrun.core.errors import ReplayMismatch
from batchrun.core.items import ItemStatus
from batchrun.engine.failures import asked
from batchrun.engine.item_run import ItemRun
from batchrun.engine.part_engines import PartEngine, PartEngines
from batchrun.engine.part_run import PartRun
from batchrun.workflows.encoding import encode


class PartEnded(BaseException):
    """Raised in a call whose item cannot go on, since a part of it was cancelled or waits for a person.

    Attributes:
        status: of the part, and so of the item.
    """

    def __init__(self, status: ItemStatus) -> None:
        super().__init__(f"a part of the call is {status}")
        self.status = status


class PartSentBack(BaseException):
    """Raised in a call in a lane when a part of it must wait before it is tried again: the call is made anew then.

    Attributes:
        run: the part.
    """

    def __init__(self, run: ItemRun) -> None:
        super().__init__("a part of the call is tried again later")
        self.run = run


class Part:
    """One part of a call.

    Attributes:
        run: where it stands.
        has_output: whether it has ended well.
        output: what it gave.
    """

    __slots__ = ("engine", "has_output", "output", "run")

    def __init__(self, engine: PartEngine, run: PartRun) -> None:
        self.engine = engine
        self.run: ItemRun = run
        self.has_output = False
        self.output: Any = None

    @property
    def cause(self) -> BaseException | None:
        """What it has failed with, for good; null: it has not."""
        return self.run.cause if isinstance(self.run, PartRun) and self.run.status == "failed" else None

    def forked(self, engines: PartEngines[Any], parent: ItemRun) -> Part:
        """A copy for a run that goes on in the place of its parent.

        It has an ordinal of its own: the journal must not hear of the run that is left behind.
        """
        source = self.run.source
        engines.runs.pop(source.ordinal, None)
        run = self.run.fork()
        assert isinstance(run, PartRun)  # noqa: S101 - for mypy
        run.parent, run.source = parent, source._replace(ordinal=engines.next_ordinal())
        engines.runs[run.source.ordinal] = run
        return Part(self.engine, run)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """An exception, or those that were raised together."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


def is_other(data: dict[str, Any], digest: str) -> bool:
    """Whether data is surely not that of a digest."""
    return bool(digest and (now := digest_of(data)) and now != digest)


def refuse_other_data(path: str, digest: str, data: dict[str, Any]) -> None:
    """Refuse data that is not that of a digest.

    Raises:
        ReplayMismatch: it is not.
    """
    if is_other(data, digest):
        raise ReplayMismatch(
            f"{path} is called with other values than before; what a workflow does must follow from its item, so that it can go on "
            "after a retry or a resume"
        )


def digest_of(data: dict[str, Any]) -> str:
    """What tells the data of a part apart from other data; empty: it cannot be told."""
    text = asked(partial(encode, data), default=b"")
    return f"{zlib.crc32(text):08x}" if text else ""
