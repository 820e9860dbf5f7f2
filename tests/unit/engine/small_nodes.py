"""Nodes and their outputs, as the tests of the engine want them."""

from __future__ import annotations

from typing import Any

import orjson

from batchrun.core.job import Run
from batchrun.core.policies import Backoff, Retry
from batchrun.nodes.python import PythonNode

ONCE = Run(retry=Retry(max_attempts=1))
SOON = Retry(max_attempts=3, backoff=Backoff(initial_seconds=0, max_seconds=0))


def node(id: str, call: Any, **options: Any) -> PythonNode:
    return PythonNode(id=id, call=call, **options)


def outputs(results: list[Any]) -> list[Any]:
    return [orjson.loads(result.output) if isinstance(result.output, bytes) else result.output for result in results]
