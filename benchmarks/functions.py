"""What is done with each item, by batchrun, by hand-written programs and by other tools. Needs the standard library only."""

from __future__ import annotations

import asyncio
import time
from typing import Any

NUMBERS_PER_MS = 20_000
WAIT_SECONDS = 0.01


def clean(text: str) -> dict[str, Any]:
    """First node."""
    return {"text": text.strip().lower(), "length": len(text)}


def score(text: str, length: int) -> dict[str, Any]:
    """Second node."""
    return {"score": length * 0.5, "start": text[:4]}


def label(score: float) -> dict[str, Any]:
    """Third node."""
    return {"label": "long" if score > 8 else "short", "score": score}


async def clean_later(text: str) -> dict[str, Any]:
    """First node, async."""
    return clean(text)


async def score_later(text: str, length: int) -> dict[str, Any]:
    """Second node, async."""
    return score(text, length)


async def label_later(score: float) -> dict[str, Any]:
    """Third node, async."""
    return label(score)


def weigh(text: str) -> float:
    """For one item."""
    return len(text) * 0.5


def weigh_many(text: list[str]) -> list[float]:
    """For many items in one call."""
    return [len(each) * 0.5 for each in text]


async def wait(n: int) -> int:
    """Wait, and give the item's number back."""
    await asyncio.sleep(WAIT_SECONDS)
    return n


def wait_in_thread(n: int) -> int:
    """The same in a plain function."""
    time.sleep(WAIT_SECONDS)
    return n


def compute(numbers: int) -> int:
    """Keep the interpreter busy."""
    total = 0
    for number in range(numbers):
        total += number
    return total


def numbers_for(milliseconds: float) -> int:
    """What `compute` must be given to take so long on this machine."""
    durations = []
    for _ in range(20):
        began = time.perf_counter()
        compute(NUMBERS_PER_MS)
        durations.append((time.perf_counter() - began) * 1e3)
    return int(NUMBERS_PER_MS * milliseconds / min(durations))
