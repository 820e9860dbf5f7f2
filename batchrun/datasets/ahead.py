"""Reading the next while one is used."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Part = TypeVar("_Part")


def ahead(parts: Iterator[_Part]) -> Iterator[_Part]:
    """The same parts, none of them null, of which the next one is made in a thread while one is used."""
    with ThreadPoolExecutor(1, "batchrun-read-ahead") as thread:
        following = thread.submit(next, parts, None)
        while (part := following.result()) is not None:
            following = thread.submit(next, parts, None)
            yield part
            del part  # or it would be held while there are two more
