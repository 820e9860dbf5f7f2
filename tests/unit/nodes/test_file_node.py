"""The `file` node: bound by the real compiler, reading real files and a real server."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from batchrun.core.checks import InvalidFields
from batchrun.core.errors import (
    AddressRefused,
    FileMissing,
    FileTooLarge,
    FileUnreadable,
    HttpStatusError,
    InvalidValue,
    JobError,
    NodeError,
    ResponseError,
    TransportError,
)
from batchrun.core.job import Workflow
from batchrun.nodes.file import FileNode
from batchrun.testing.loopback import Answer, LoopbackServer
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.encoding import encode
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

ENDLESS = Path("/proc/self/smaps")
PDF = b"%PDF-1.7\0\xff"


def planned(folder: Path, **options: Any) -> Plan:
    node = FileNode(id="scan", **options)
    return compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=("at",), vars={"where": "letters"}, folder=folder))


async def output(folder: Path, at: Any = None, **options: Any) -> Any:
    """The node's output for one item, called as the engine would."""
    plan = planned(folder, **{"source": "{{ item.at }}", "allow_paths": (".",), **options})
    async with AsyncExitStack() as stack:
        for lifespan in plan.lifespans:
            await stack.enter_async_context(lifespan())
        return await plan.steps[0].call(Scope({"at": at}, [None]))


def problems(folder: Path, **options: Any) -> list[str]:
    with pytest.raises(JobError) as caught:
        planned(folder, **options)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `job` with files in it, and one beside it."""
    job = tmp_path / "job"
    (job / "letters").mkdir(parents=True)
    (job / "letters" / "a.pdf").write_bytes(PDF)
    (job / "letters" / "note.txt").write_text("Grüße")
    (tmp_path / "secret.txt").write_text("secret")
    return job


async def test_a_file_is_given_with_its_name_type_and_size(folder: Path) -> None:
    """Whoever goes on with it needs no second look at the path; the type does not depend on the machine."""
    assert await output(folder, "letters/a.pdf") == {"name": "a.pdf", "media_type": "application/pdf", "size_bytes": 10, "content": PDF}


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("text", "Grüße"),
        ("base64", "R3LDvMOfZQ=="),
        ("data_uri", "data:text/plain;base64,R3LDvMOfZQ=="),
        ("bytes", "Grüße".encode()),
    ],
)
async def test_the_content_has_the_form_that_is_asked_for(folder: Path, form: str, content: str | bytes) -> None:
    """Models want data URIs, JSON services base64, functions text or bytes. What is stored comes back as it was."""
    found = await output(folder, "letters/note.txt", form=form)
    assert (found["content"], found["size_bytes"]) == (content, 7)
    step = planned(folder, source="letters/note.txt", form=form).steps[0]
    assert step.restore(orjson.loads(encode(found))) == found


async def test_text_is_read_as_it_says_of_itself(folder: Path) -> None:
    """A byte order mark and the charset of a data URI count; what is not text fails with what to do instead."""
    (folder / "mark.txt").write_bytes("\ufeffhi".encode("utf-16-le"))
    assert (await output(folder, "mark.txt", form="text"))["content"] == "hi"
    assert (await output(folder, "data:text/plain;charset=latin-1,%FC", form="text"))["content"] == "ü"
    with pytest.raises(InvalidValue, match=r"a\.pdf \(application/pdf\) is not text: .*; take it as bytes or base64"):
        await output(folder, "letters/a.pdf", form="text")


async def test_null_gives_null(folder: Path) -> None:
    """An item without a file, or a node before it that was skipped, is no failure: null propagates."""
    assert await output(folder, None) is None


@pytest.mark.parametrize(
    "at",
    ["../secret.txt", "letters/../../secret.txt", "/etc/passwd", "link.txt", "linked/secret.txt", "file:///etc/passwd", "letters/../.."],
)
async def test_item_data_cannot_leave_the_folders_it_may_lead_into(folder: Path, at: str) -> None:
    """Neither dots, absolute paths nor symbolic links lead anywhere else, and whether there is a file is not told."""
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "linked").symlink_to(folder.parent)
    with pytest.raises(AddressRefused, match="in none of the folders of allow_paths") as caught:
        await output(folder, at)
    assert not caught.value.retryable


async def test_the_job_itself_may_name_any_path(folder: Path) -> None:
    """The job is trusted: a path that is written in it, or comes from its vars, needs no permission."""
    assert (await output(folder, source="../secret.txt", allow_paths=None, form="text"))["content"] == "secret"
    assert (await output(folder, source="{{ vars.where }}/note.txt", allow_paths=None, form="text"))["content"] == "Grüße"
    uri = (folder / "letters" / "note.txt").as_uri()
    assert (await output(folder, source=uri, allow_paths=None, form="text"))["content"] == "Grüße"


async def test_links_within_the_allowed_folders_are_followed(folder: Path) -> None:
    """Data sets of files are full of links; only where they lead counts."""
    (folder / "link.txt").symlink_to("letters/note.txt")
    assert (await output(folder, "link.txt", form="text"))["content"] == "Grüße"
    (folder.parent / "elsewhere").symlink_to(folder / "letters")
    assert (await output(folder, "letters/note.txt", allow_paths=("../elsewhere",), form="text"))["content"] == "Grüße"


@pytest.mark.parametrize(
    ("at", "kind", "message"),
    [
        ("letters/none.txt", FileMissing, "there is no file .*none.txt"),
        ("letters/a.pdf/inner", FileMissing, "there is no file"),
        ("letters", FileUnreadable, "is a folder, not a file"),
        ("pipe", FileUnreadable, "a device, a pipe or a socket, not a file"),
        ("circle", (FileUnreadable, FileMissing), "circle"),
        ("zero\0byte", FileUnreadable, "is not a path"),
        ("x" * 300, FileUnreadable, "cannot be read: File name too long"),
        ("ftp://host/x", InvalidValue, "must be a path, an http or https address or a data: URI"),
        ("file://host/x", InvalidValue, "names a file of this machine"),
        ("data:text/plain;base64", InvalidValue, "has a comma before its data"),
        ("data:;base64,a*b", InvalidValue, "not valid base64"),
        (["a"], InvalidValue, "the source"),
    ],
)
async def test_what_cannot_be_read_fails_for_good_and_says_why(folder: Path, at: Any, kind: Any, message: str) -> None:
    """Trying again would not help; a pipe that nobody writes to must not hang."""
    os.mkfifo(folder / "pipe")
    (folder / "circle").symlink_to("circle")
    with anyio.fail_after(60), pytest.raises(kind, match=message) as caught:
        await output(folder, at)
    assert not caught.value.retryable


@pytest.mark.parametrize("at", ["letters/a.pdf", "data:;base64,JVBERi0xLjcA/w==", "data:,0123456789", "data:," + "%30" * 2000])
async def test_files_that_are_too_large_are_refused(folder: Path, at: str) -> None:
    """One huge file fails its item, not the run; a file of just the size passes."""
    with pytest.raises(FileTooLarge, match="max_bytes is 9; raise it to take the file"):
        await output(folder, at, max_bytes=9)
    if len(at) < 100:
        assert (await output(folder, at, max_bytes=10))["size_bytes"] == 10


@pytest.mark.skipif(not ENDLESS.exists(), reason="there is no such file here")
async def test_files_without_a_size_are_bounded_while_they_are_read(folder: Path) -> None:
    """Some files say that they are empty and never end, or grow."""
    with pytest.raises(FileTooLarge, match="more than 9"):
        await output(folder, source=str(ENDLESS), max_bytes=9)


@pytest.mark.parametrize(
    ("uri", "media_type", "content"),
    [
        ("data:,a%20b", "text/plain;charset=US-ASCII", b"a b"),
        ("data:image/png;base64,/wA", "image/png", b"\xff\0"),
        ("DATA:text/plain;charset=utf-8;base64,\n aGk= ", "text/plain;charset=utf-8", b"hi"),
        ("data:;charset=utf-8,x", "text/plain;charset=utf-8", b"x"),
    ],
)
async def test_data_uris_are_files_without_a_name(folder: Path, uri: str, media_type: str, content: bytes) -> None:
    """They need no permission: they lead nowhere."""
    found = await output(folder, uri, allow_paths=())
    assert found == {"name": None, "media_type": media_type, "size_bytes": len(content), "content": content}


async def test_addresses_are_fetched(folder: Path) -> None:
    """The type is the one the server says, the name the last part of the address."""
    answer = Answer(body=PDF, headers={"Content-Type": "application/x-pdf"})
    with LoopbackServer({"/docs/a%2Fb.pdf": answer}) as server:
        found = await output(folder, "a/b", source=server.url + "/docs/{{ item.at }}.pdf", allow_paths=None)
    assert found == {"name": "b.pdf", "media_type": "application/x-pdf", "size_bytes": 10, "content": PDF}


async def test_hosts_from_item_data_must_be_named(folder: Path) -> None:
    """Item data cannot make this machine talk to its own services, unless the job writes their address out."""
    with LoopbackServer({"/x": Answer(body=b"hi")}) as server:
        host = server.url.removeprefix("http://")
        found = await output(folder, server.url + "/x", allow_hosts=(host,))
        assert found["content"] == b"hi"
        for refused in ((), ("*",), ("*.example.com",), (host.partition(":")[0],)):
            with pytest.raises(AddressRefused):
                await output(folder, server.url + "/x", allow_hosts=refused)
        port = host.partition(":")[2]
        with pytest.raises(AddressRefused, match=r"leads to (127|::1).*inside the network"):
            await output(folder, f"http://localhost:{port}/x", allow_hosts=("*:" + port,))
        for odd in ("2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]"):
            with pytest.raises((AddressRefused, InvalidValue)):
                await output(folder, f"http://{odd}:{port}/x", allow_hosts=("*:" + port,))
        with pytest.raises(InvalidValue, match="must not hold a user or password"):
            await output(folder, f"http://me:pw@{host}/x", allow_hosts=(host,))
        assert len(server.requests) == 1


async def test_redirects_are_followed_as_far_as_the_job_trusts_them(folder: Path) -> None:
    """A trusted host may lead to another place on itself, and to hosts that are allowed; never elsewhere, and not for ever."""
    with LoopbackServer({"/there": Answer(body=b"there")}) as other:
        answers = {
            "/moved": Answer(status=302, headers={"Location": "/here#part"}),
            "/here": Answer(body=b"here"),
            "/away": Answer(status=307, headers={"Location": other.url + "/there?key=secret"}),
            "/round": Answer(status=301, headers={"Location": "/round"}),
            "/ftp": Answer(status=302, headers={"Location": "ftp://host/x"}),
            "/lost": Answer(status=302),
        }
        with LoopbackServer(answers) as server:
            source = {"source": server.url + "/{{ item.at }}", "allow_paths": None}
            moved = await output(folder, "moved", **source)
            assert (moved["content"], moved["name"]) == (b"here", "here")
            with pytest.raises(AddressRefused, match=r"answered 307 and points to .*, which is not followed") as caught:
                await output(folder, "away", **source)
            assert "secret" not in str(caught.value)
            assert other.requests == []
            away = await output(folder, "away", **source, allow_hosts=(other.url.removeprefix("http://"),))
            assert away["content"] == b"there"
            with pytest.raises(ResponseError, match="the end of 5 redirects"):
                await output(folder, "round", **source)
            for at in ("ftp", "lost"):
                with pytest.raises(HttpStatusError):
                    await output(folder, at, **source)


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        (Answer(status=404), HttpStatusError, False),
        (Answer(status=503), HttpStatusError, True),
        (Answer(raw=b""), TransportError, True),
        (Answer(body=b"x" * 100), FileTooLarge, False),
        (Answer(raw=b"HTTP/1.1 200 -\r\n\r\n" + b"x" * 100_000), FileTooLarge, False),
        (Answer(body=b"broken", headers={"Content-Encoding": "gzip"}), ResponseError, False),
    ],
)
async def test_the_errors_of_the_network_are_those_of_http_nodes(folder: Path, answer: Answer, kind: Any, *, retryable: bool) -> None:
    """The same retry rules hold, whichever node it was; nothing is ambiguous, for reading twice does no harm."""
    with LoopbackServer({"/x": answer}) as server, pytest.raises(NodeError) as caught:
        await output(folder, source=server.url + "/x", max_bytes=50)
    assert (type(caught.value), caught.value.retryable, caught.value.ambiguous) == (kind, retryable, False)


def test_what_item_data_may_lead_to_is_asked_before_the_first_item(folder: Path) -> None:
    """A permission that is missing would fail every item; so would a folder that is not there."""
    assert problems(folder, source="letters/{{ item.at }}.pdf") == [
        "workflow.nodes[0].source: the path comes from item data: name the folders it may lead into under allow_paths"
    ]
    assert problems(folder, source="https://{{ item.at }}/x") == [
        "workflow.nodes[0].source: the host comes from item data: name those that are allowed under allow_hosts"
    ]
    (said,) = problems(folder, source="{{ item.at }}")
    assert said.endswith("allow_paths: [] takes data URIs alone")
    (said,) = problems(folder, source="{{ item.at }}", allow_paths=("lettres",))
    assert said.startswith("workflow.nodes[0].allow_paths[0]: 'lettres' is not a folder; it is looked for in ")
    (said,) = problems(folder, source="{{ item.at }}", allow_hosts=("http://host",))
    assert said.startswith("workflow.nodes[0].allow_hosts[0]: must be a host such as")
    assert problems(folder, source="{{ item.ta }}", allow_paths=(".",)) == ['workflow.nodes[0].source: unknown column "ta"; columns: at']
    with pytest.raises(InvalidFields, match="max_bytes"):
        FileNode(id="scan", source="x", max_bytes=0)
