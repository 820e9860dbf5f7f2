"""Node functions whose troubles a test decides, in its own process, and a log of their calls."""

from __future__ import annotations

from typing import NamedTuple

from batchrun import Context

JOB = """\
name: moody
dataset: {path: data.parquet, id: id}
workflow:
  nodes:
    - {id: fetch, type: python, call: "tests.e2e.moody:fetch", inputs: {size: "{{ item.size }}"}}
    - {id: guess, type: python, call: "tests.e2e.moody:guess", inputs: {size: "{{ nodes.fetch.output }}"}, on_failure: continue}
    - {id: join, type: python, call: "tests.e2e.moody:join", inputs: {size: "{{ nodes.fetch.output }}", guess: "{{ nodes.guess.output }}"}}
    - {id: judge, type: python, call: "tests.e2e.moody:judge", inputs: {size: "{{ item.size }}", joined: "{{ nodes.join.output }}"}}
  output: "{{ nodes.judge.output }}"
run: {parallelism: 2, retry: {max_attempts: 1, backoff: {initial_seconds: 0}}}
output: {path: runs, keep: [size, ordinal]}
"""


class Call(NamedTuple):
    """A call that was made."""

    node: str
    size: int
    key: str
    attempt: int


class Moods:
    """What the functions do, and have done.

    Attributes:
        troubles: the error of each node, for an item or for all (-1).
        made: the calls since the last time they were taken.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.troubles: dict[tuple[str, int], Exception] = {}
        self.made: list[Call] = []

    def call(self, node: str, size: int, context: Context) -> None:
        self.made.append(Call(node, size, context.call_key, context.attempt))
        trouble = self.troubles.get((node, size), self.troubles.get((node, -1)))
        if trouble is not None:
            raise trouble

    def take(self) -> list[str]:
        """The calls since the last time, sorted."""
        made, self.made = self.made, []
        return sorted(f"{call.node} {call.size}" for call in made)


moods = Moods()


async def fetch(size: int, context: Context) -> int:
    moods.call("fetch", size, context)
    return size


def guess(size: int, context: Context) -> str:
    moods.call("guess", size, context)
    return f"guess {size}"


async def join(size: int, guess: str | None, context: Context) -> str:
    moods.call("join", size, context)
    return f"{size} by {guess}"


def judge(size: int, joined: str, context: Context) -> str:
    moods.call("judge", size, context)
    return f"{joined} is fine"
