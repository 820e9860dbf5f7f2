"""Nodes and their outputs, as the tests of the engine want them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import orjson

from batchrun import Context
from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Retry
from batchrun.nodes.python import PythonNode

ONCE = Run(retry=Retry(max_attempts=1))
SOON = Retry(max_attempts=3, backoff=Backoff(initial_seconds=0, max_seconds=0))


def node(id: str, call: Any, **options: Any) -> PythonNode:
    return PythonNode(id=id, call=call, **options)


def asking(body: Callable[[int, Context], Any], *, is_async: bool) -> PythonNode:
    """A node whose function asks for its context."""

    def call(n: int, context: Context) -> Any:
        return body(n, context)

    async def call_async(n: int, context: Context) -> Any:
        await anyio.lowlevel.checkpoint()
        return body(n, context)

    return node("asks", call_async if is_async else call, inputs={"n": "{{ item.n }}"}, retry=SOON)


def outputs(results: list[Any]) -> list[Any]:
    return [orjson.loads(result.output) if isinstance(result.output, bytes) else result.output for result in results]
