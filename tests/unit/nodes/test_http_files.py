"""Answers that are taken into files, and files that are sent: whole or not at all, in a bounded memory."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchrun.core.checks import InvalidFields
from batchrun.core.errors import AddressRefused, FileMissing, FileUnreadable, JobError, NodeError
from batchrun.core.job import Resource, Workflow
from batchrun.net.saving import Saving, clean
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.testing.loopback import Answer, LoopbackServer
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.home import EXECUTION_FOLDER
from batchrun.workflows.scope import Scope
from tests.unit.nodes.test_http_node import opened

LARGE = bytes(range(256)) * 4 * 2**12 * 5  # 20 MiB


class Pieces(httpx.AsyncByteStream):
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    token = EXECUTION_FOLDER.set(tmp_path / "run")
    yield tmp_path / "run"
    EXECUTION_FOLDER.reset(token)


async def call(node: HttpNode, item: dict[str, Any], server: LoopbackServer, folder: Path) -> Any:
    around = Surroundings(columns=("text",), resources={"api": Resource(base_url=server.url)}, folder=folder)
    plan = compile_workflow(Workflow(nodes=(node,)), around)
    step = plan.steps[0]
    async with opened(plan):
        scope = Scope(item, [None])
        scope.inputs = step.inputs(scope)
        output = await step.call(scope)
        assert step.restore(output) == output
        return output


def fetching(path: str = "/a/report.pdf", **options: Any) -> HttpNode:
    return HttpNode(id="get", resource="api", request=HttpRequest(path=path), response="file", **options)


def sending(file: str, **options: Any) -> HttpNode:
    return HttpNode(id="put", resource="api", request=HttpRequest(method="PUT", path="/up", file=file), **options)


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_an_answer_is_taken_into_a_file(home: Path) -> None:
    """The output says where it is and what it is; the same content is there once."""
    attached = {"Content-Disposition": 'attachment; filename="../x y.pdf"'}
    answers = {"/a/report.pdf": Answer(body=LARGE, headers={"Content-Type": "application/pdf"}), "/b": Answer(body=LARGE, headers=attached)}
    with LoopbackServer(answers) as server:
        found = await call(fetching(), {}, server, home)
        other = await call(fetching("/b"), {}, server, home)
    digest = hashlib.sha256(LARGE).hexdigest()
    path = home / "files" / digest[:2] / digest
    assert found == {"name": "report.pdf", "media_type": "application/pdf", "size_bytes": len(LARGE), "path": str(path), "sha256": digest}
    assert (other["name"], other["path"]) == ("x y.pdf", str(path))
    assert path.read_bytes() == LARGE and left_in(home) == [path]


async def test_an_answer_of_any_size_takes_little_memory(home: Path) -> None:
    """It goes to the disk piece by piece."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(1_000):
            yield bytes([number % 256]) * 65_536

    tracemalloc.start()
    try:
        saving = Saving(home / "files", "")
        await saving.read(httpx.Response(200, stream=Pieces(pieces())), 2**30)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert (saving.found["size_bytes"], saving.found["name"]) == (65_536_000, None)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=gzip.compress(bytes(50 * 2**20)), headers={"Content-Encoding": "gzip"}),
        Answer(body=LARGE),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
        Answer(body=b"x", headers={"Content-Encoding": "br"}),
        Answer(body=b"x", headers={"Content-Encoding": "zstd"}),
        Answer(body=b"x", headers={"Content-Encoding": "gzip, gzip"}),
        Answer(status=500, body=b"broken"),
    ],
    ids=["bomb", "large", "cut off", "brotli", "zstd", "twice", "status"],
)
async def test_nothing_is_left_of_an_answer_that_is_not_taken(home: Path, answer: Answer) -> None:
    """Bombs end at the limit, what is cut off never gets a name."""
    with LoopbackServer({"/a/report.pdf": answer}) as server, pytest.raises(NodeError):
        await call(fetching(max_response_bytes=2**20), {}, server, home)
    assert left_in(home) == []


async def test_what_a_killed_process_left_is_removed_and_nothing_else(home: Path) -> None:
    """Unfinished files of others go when the next process begins; its own stay."""
    (home / "files").mkdir(parents=True)
    (home / "files" / ".unfinished-0-abc").write_bytes(b"part")
    (home / "files" / "ab").write_bytes(b"whole")
    clean(home / "files")
    assert [path.name for path in left_in(home)] == ["ab"]


async def test_a_file_of_a_folder_that_was_moved_is_found(home: Path) -> None:
    """An execution may be resumed where it was copied to."""
    node = fetching()
    with LoopbackServer({"/a/report.pdf": Answer(body=b"abc")}) as server:
        found = await call(node, {}, server, home)
        around = Surroundings(columns=("text",), resources={"api": Resource(base_url=server.url)})
        plan = compile_workflow(Workflow(nodes=(node,)), around)
        async with opened(plan):
            assert plan.steps[0].restore({**found, "path": "/elsewhere"}) == found


async def test_a_large_file_is_sent_from_the_disk(tmp_path: Path) -> None:
    """With its length and its type, without holding it."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "data.csv").write_bytes(LARGE)
    with LoopbackServer({"/up": Answer(body=b"{}")}) as server:
        await call(sending("{{ item.text }}", allow_paths=("in",)), {"text": "in/data.csv"}, server, tmp_path)
        await call(sending("in/data.csv"), {}, server, tmp_path)
    for received in server.requests:
        assert hashlib.sha256(received.body).digest() == hashlib.sha256(LARGE).digest()
        assert (received.headers["content-length"], received.headers["content-type"]) == (str(len(LARGE)), "text/csv")


async def test_a_file_is_sent_again_where_a_redirect_asks_for_it(tmp_path: Path) -> None:
    """307 means the same request, body included."""
    (tmp_path / "a.bin").write_bytes(b"abc" * 1000)
    with LoopbackServer({"/up": Answer(status=307, headers={"Location": "/there"}), "/there": Answer(body=b"{}")}) as server:
        await call(sending("a.bin", max_redirects=1), {}, server, tmp_path)
    assert [received.body for received in server.requests] == [b"abc" * 1000] * 2


async def test_item_data_sends_no_other_files(tmp_path: Path) -> None:
    """Not through `..`, links or absolute paths; and what is not there is said."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("s")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    with LoopbackServer({"/up": Answer(body=b"{}")}) as server:
        node = sending("{{ item.text }}", allow_paths=("in",))
        for path in ("in/../secret", "in/link", str(tmp_path / "secret"), "/etc/passwd"):
            with pytest.raises(AddressRefused, match="allow_paths"):
                await call(node, {"text": path}, server, tmp_path)
        for path, kind in (("in/none", FileMissing), ("in", FileUnreadable), ("in/\0", FileUnreadable)):
            with pytest.raises(kind):
                await call(node, {"text": path}, server, tmp_path)
        with pytest.raises(JobError, match="name the folders it may lead into under allow_paths"):
            await call(sending("{{ item.text }}"), {"text": "a"}, server, tmp_path)
    assert server.requests == []


async def test_a_file_that_a_node_has_taken_can_be_sent_on(home: Path) -> None:
    """What is in the folder of the execution was put there by the job."""
    with LoopbackServer({"/a/report.pdf": Answer(body=b"abc"), "/up": Answer(body=b"{}")}) as server:
        around = Surroundings(columns=("text",), resources={"api": Resource(base_url=server.url)})
        plan = compile_workflow(Workflow(nodes=(fetching(), sending("{{ nodes.get.output.path }}"))), around)
        outputs: list[Any] = [None, None]
        async with opened(plan):
            for step in plan.steps:
                scope = Scope({}, outputs)
                scope.inputs = step.inputs(scope)
                outputs[step.position] = await step.call(scope)
    assert server.requests[1].body == b"abc"


def test_options_that_cannot_go_together_are_refused() -> None:
    """Each would silently do something else."""
    for options in ({"cache": True}, {"success": "{{ response }}"}, {"extract": "a"}, {"max_redirects": -1}):
        with pytest.raises(InvalidFields):
            fetching(**options)  # type: ignore[arg-type]
    with pytest.raises(InvalidFields):
        sending("a", dedupe=True)
