"""Python workflows whose troubles a test decides, in its own process, and a log of their calls."""

from __future__ import annotations

from typing import Any

import batchrun
from tests.e2e.moody import Moods

moods = Moods()

ONCE = {"max_attempts": 1}


@batchrun.node(retry=ONCE)
async def fetch(size: int, context: batchrun.Context | None = None) -> int:
    assert context is not None
    moods.call("fetch", size, context)
    return size


@batchrun.node(retry=ONCE)
async def weigh(size: int, part: int, context: batchrun.Context | None = None) -> int:
    assert context is not None
    moods.call(f"weigh{part}", size, context)
    return size * part


@batchrun.node(retry=ONCE, placement="thread")
async def judge(size: int, total: int, mark: str, context: batchrun.Context | None = None) -> str:
    assert context is not None
    moods.call("judge", size, context)
    return f"{size} weighs {total}, {mark}"


def guess(size: int, total: int, mark: str) -> str:
    return f"{size} may weigh {total}"


@batchrun.workflow(retry=ONCE)
async def flow(item: dict[str, int]) -> str:
    """Fetches, weighs three parts at once, and judges heavy ones."""
    mark, size = str(batchrun.uuid()), await fetch(item["size"])
    weights = await batchrun.gather(*(weigh(size, part) for part in (1, 2, 3)), limit=2)
    return await judge(size, sum(weights), mark) if size else "nothing"


@batchrun.workflow(retry=ONCE)
async def guessing(item: dict[str, int]) -> str:
    """Guesses what it cannot judge."""
    return await judge.with_options(name="verdict", fallback=guess)(item["size"], 1, "")


@batchrun.workflow(retry=ONCE)
async def asking(item: dict[str, int]) -> str:
    """Asks a person about heavy ones."""
    mark, size = str(batchrun.uuid()), await fetch(item["size"])
    said = await batchrun.pause("check", output=f"{size} {mark}") if size > 1 else "nobody"
    return f"{await weigh(size, 2)} {mark}, asked {said}"


settings = {"part": 1}


@batchrun.workflow(retry=ONCE)
async def outside(item: dict[str, int]) -> int:
    """Depends on something besides its item, which it must not."""
    weight = await weigh(item["size"], settings["part"])
    await judge(weight, 0, "")
    return weight


@batchrun.node
def double(number: int) -> int:
    return 2 * number


@batchrun.workflow
def plain(item: dict[str, Any]) -> int:
    """No async function."""
    number = double(item["size"])
    for _ in range(item["size"]):
        number = double(number)
    return number


@batchrun.workflow(name="always", retry={"max_attempts": 2, "backoff": {"initial_seconds": 0}})
async def failing(item: dict[str, int]) -> int:
    """Fails, by itself."""
    raise ConnectionError("not now")
