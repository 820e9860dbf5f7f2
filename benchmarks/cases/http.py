"""One `http` node with full records and a journal, beside bare aiohttp and `httpx.AsyncClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from batchrun import Dataset, Job, Output, Resource, Run, Workflow
from batchrun.nodes.http import HttpNode, HttpRequest
from benchmarks.jobs import make_dataset, measured
from benchmarks.model import Aim, Case, Variant
from benchmarks.service import service

_PARALLELISM = 100


@contextmanager
def files(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    """A fast service in a process of its own, the same for all."""
    with service(folder) as url:
        yield {"dataset": str(make_dataset(folder / "items.parquet", items)), "url": url}


def by_aiohttp(dataset: str, url: str, items: int, folder: str) -> Any:
    """The same requests with nothing around them."""
    del dataset, folder
    return _by_hand(_aiohttp(url), items)


def by_httpx(dataset: str, url: str, items: int, folder: str) -> Any:
    """The same requests as most Python programs send them."""
    del dataset, folder
    return _by_hand(_httpx(url), items)


def job(dataset: str, url: str, items: int, folder: str) -> Any:
    """The job."""
    node = HttpNode(id="ask", resource="api", request=HttpRequest(path="/label", query={"id": "{{ item.id }}"}))

    def made(source: Path) -> Job:
        return Job(
            name="http",
            dataset=Dataset(path=str(source), id="id"),
            workflow=Workflow(nodes=(node,)),
            resources={"api": Resource(base_url=url)},
            run=Run(parallelism=_PARALLELISM),
            output=Output(path=str(Path(folder) / "runs")),
        )

    return measured(made, dataset, items, folder)


@asynccontextmanager
async def _aiohttp(url: str) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(number: int) -> None:
            async with session.get(f"{url}/label", params={"id": number}) as response:
                await response.json()

        yield send


@asynccontextmanager
async def _httpx(url: str) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def send(number: int) -> None:
            (await client.get(f"{url}/label", params={"id": number})).json()

        yield send


def _by_hand(opened: Any, items: int) -> Any:
    runner = asyncio.Runner()
    send = runner.run(opened.__aenter__())
    runner.run(_all_of(_PARALLELISM, send))  # connections are open before the clock starts

    def work() -> int:
        done = runner.run(_all_of(items, send))
        runner.run(opened.__aexit__(None, None, None))
        runner.close()
        return done

    return work


async def _all_of(count: int, send: Callable[[int], Awaitable[None]]) -> int:
    numbers = iter(range(count))

    async def work() -> int:
        done = 0
        for number in numbers:
            await send(number)
            done += 1
        return done

    return sum(await asyncio.gather(*(work() for _ in range(_PARALLELISM))))


_THIS = "benchmarks.cases.http"
CASES = (
    Case(
        group="http",
        name="http",
        about="one request an item, 100 at a time, to a fast service on the same machine; batchrun writes full records and a journal",
        baseline="aiohttp",
        variants=(
            Variant(name="aiohttp", call=f"{_THIS}:by_aiohttp"),
            Variant(name="batchrun", call=f"{_THIS}:job"),
            Variant(name="httpx.AsyncClient", call=f"{_THIS}:by_httpx", share=0.05),
        ),
        files=files,
        items=20_000,
        quick_items=500,
        aims=(Aim(variant="batchrun", at_most=1 / 0.75, against="aiohttp"),),
    ),
)
