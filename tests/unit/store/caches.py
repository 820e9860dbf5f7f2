"""Caches, as the tests of the cache want them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from batchrun.store import Cache

PATIENCE_SECONDS = 60


def key(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=20).digest()


def output(number: int, size: int = 0) -> bytes:
    return b'{"n":%d,"text":"%s"}' % (number, b"x" * size)


@contextmanager
def opened(home: Path, *notes: list[str], job: str = "triage", **options: Any) -> Iterator[Cache]:
    """A cache that must have nothing to tell, unless `notes` takes it."""
    told: list[str] = notes[0] if notes else []
    cache = Cache(job, told.append, home, **options)
    try:
        yield cache
    finally:
        cache.close()
    assert notes or told == []


def fill(home: Path, numbers: range, size: int = 0, **options: Any) -> None:
    with opened(home, **options) as cache:
        for number in numbers:
            cache.put(key(number), output(number, size), "classify", "f1")


def found(home: Path, numbers: range, *notes: list[str], size: int = 0) -> list[int]:
    """The numbers whose outputs are kept, each as it was."""
    with opened(home, *notes) as cache:
        values = {number: cache.get(key(number)) for number in numbers}
    assert all(value in (None, output(number, size)) for number, value in values.items())
    return [number for number, value in values.items() if value is not None]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
