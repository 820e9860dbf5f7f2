"""Reading the next while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from batchrun.core.errors import JobError

_Part = TypeVar("_Part")
_Made = TypeVar("_Made")
_THREADS = 2
_FIRST_PARTS = 6


def ahead(parts: Iterator[_Part]) -> Iterator[_Part]:
    """The same parts, none of them null, of which the next one is made in a thread while one is used."""
    with ThreadPoolExecutor(1, "batchrun-read-ahead") as thread:
        following = thread.submit(next, parts, None)
        while (part := following.result()) is not None:
            following = thread.submit(next, parts, None)
            yield part
            del part  # or it would be held while there are two more


def each_ahead(make: Callable[[_Part], _Made], parts: Iterator[_Part]) -> Iterator[_Made]:
    """What is made of each part, in order, of which the next few are made in threads while one is used.

    Not so for the first parts, which may be all that is wanted: each is made when it is asked for. When there is no next part
    because of an error, what was made of those before it comes first.
    """
    for part in islice(parts, _FIRST_PARTS):
        yield make(part)
    failure: JobError | None = None
    with ThreadPoolExecutor(_THREADS, "batchrun-read-ahead") as threads:
        following: deque[Future[_Made]] = deque()
        while failure is None:
            try:
                following.append(threads.submit(make, next(parts)))
            except StopIteration:
                break
            except JobError as error:
                failure = error
            if len(following) > _THREADS:
                yield following.popleft().result()
        while following:
            yield following.popleft().result()
    if failure is not None:
        raise failure
