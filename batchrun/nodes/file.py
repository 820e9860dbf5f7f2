"""The `file` node: the bytes of a file, from a path, the web or a data URI."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import httpx

from batchrun.core.checks import KEY, at_least, refuse
from batchrun.core.errors import InvalidValue
from batchrun.core.files import File
from batchrun.core.job import NodeOptions
from batchrun.net.address import address_problem, compile_url, constant_head, has_whole_host
from batchrun.net.hosts import AllowedHosts, host_problem
from batchrun.nodes.file_reader import Allowance, FileReader
from batchrun.workflows.file_inputs import BoundFile
from batchrun.workflows.node import NodeCall, NodeCompiler, Render
from batchrun.workflows.scope import Scope

MAX_BYTES = 16 * 2**20
"""The largest file taken unless the job says otherwise."""


class _Described(TypedDict):
    name: str
    media_type: str
    size_bytes: int


class TextContent(_Described):
    """The output of a node that gives text."""

    content: str


class BytesContent(_Described):
    """The output of a node that gives bytes."""

    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNode(NodeOptions):
    """Reads a file; the output is an object with `name`, `media_type`, `size_bytes` and `content`.

    Relative paths start from the folder of the job file. A null source gives null. What item data may lead to is nothing
    but what `allow_paths` and `allow_hosts` say. Redirects are followed to the same host and to those of `allow_hosts`.
    """

    type: Literal["file"] = "file"
    """Reads a file."""
    source: str
    """A path, an http or https address, or a `data:` URI. In an address whose host is literal or comes from vars, what a template
    inserts is percent-encoded and cannot leave its segment."""
    form: Literal["bytes", "text", "base64", "data_uri"] = field(default="bytes", metadata={KEY: "as"})
    """What the content is given as. Bytes are base64 in JSON; text is read as its byte order mark or media type says, else as UTF-8."""
    allow_paths: tuple[str, ...] | None = None
    """Folders that item data may lead into, symbolic links followed; relative to the job file."""
    allow_hosts: tuple[str, ...] | None = None
    """Hosts that item data may name: `files.example.com`, `*.example.com`, `host:8443`; only public ones, unless one is written out."""
    max_bytes: int = MAX_BYTES
    """The largest file taken, decompressed."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(at_least(1, max_bytes=self.max_bytes))

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Check the source and what it may lead to."""
        bound = self.bind_file(compiler, "source")
        if bound is None:
            return None
        write, returns = _WRITERS[self.form], BytesContent if self.form == "bytes" else TextContent

        async def call(scope: Scope) -> Any:
            file = await bound.read(bound.source(scope))
            return None if file is None else write(file)

        restore = _restore if self.form == "bytes" else (lambda value: value)
        return NodeCall(call=call, waits=True, returns=returns, restore=restore, lifespan=bound.lifespan)

    def bind_file(self, compiler: NodeCompiler, *path: str | int) -> BoundFile | None:
        """What reads the file for an item. The source is at `path` in the node's mapping; null when problems were reported."""
        folders = self._folders(compiler, path)
        for index, entry in enumerate(self.allow_hosts or ()):
            problem = host_problem(entry)
            if problem:
                compiler.problem(problem, *path[:-1], "allow_hosts", index)
        head = constant_head(self.source, compiler, *path)
        is_address = head.text.lower().startswith(("http://", "https://"))
        trusted_host, render = None, None
        if is_address and (head.is_all or has_whole_host(head.text)):
            render = compile_url(self.source, compiler, *path)
            trusted_host = None if address_problem(head.text) else _host(head.text)
        else:
            self._check_allowance(head.text, compiler, path, is_all=head.is_all, is_address=is_address)
            render = _as_constant(head.text) if head.is_all else compiler.template(self.source, *path)
        if render is None:
            return None
        allowance = Allowance(
            any_path=head.is_all,
            folders=folders,
            trusted_host=trusted_host,
            hosts=AllowedHosts(self.allow_hosts or ()),
            max_bytes=self.max_bytes,
        )
        reader = FileReader(compiler.folder, allowance)
        return BoundFile(source=render, read=reader.read, lifespan=reader.lifespan)

    def _folders(self, compiler: NodeCompiler, path: tuple[str | int, ...]) -> tuple[Path, ...]:
        folders = []
        for index, entry in enumerate(self.allow_paths or ()):
            folder = (compiler.folder / entry).resolve()
            if not folder.is_dir():
                compiler.problem(f"{entry!r} is not a folder; it is looked for in {compiler.folder}", *path[:-1], "allow_paths", index)
            folders.append(folder)
        return tuple(folders)

    def _check_allowance(self, head: str, compiler: NodeCompiler, path: tuple[str | int, ...], *, is_all: bool, is_address: bool) -> None:
        """Report item data that could lead to nothing at all, because the job does not say where it may lead."""
        if is_all or head.lower().startswith("data:"):
            return
        if is_address and not self.allow_hosts:
            compiler.problem("the host comes from item data: name those that are allowed under allow_hosts", *path)
        elif head and not is_address and not self.allow_paths:
            compiler.problem("the path comes from item data: name the folders it may lead into under allow_paths", *path)
        elif not head and self.allow_paths is None and self.allow_hosts is None:
            compiler.problem(
                "comes from item data: name the folders it may lead into under allow_paths, the hosts under allow_hosts; "
                "allow_paths: [] takes data URIs alone",
                *path,
            )


def _host(address: str) -> bytes:
    return httpx.URL(address).netloc


def _as_constant(text: str) -> Render:
    return lambda _scope: text


def _text(file: File) -> str:
    try:
        return file.text()
    except (UnicodeDecodeError, LookupError) as error:
        raise InvalidValue(f"{file.name or 'the file'} ({file.media_type}) is not text: {error}; take it as bytes or base64") from None


def _writer(content: Callable[[File], Any]) -> Callable[[File], dict[str, Any]]:
    return lambda file: {"name": file.name, "media_type": file.media_type, "size_bytes": file.size_bytes, "content": content(file)}


_WRITERS = {
    "bytes": _writer(lambda file: file.content),
    "text": _writer(_text),
    "base64": _writer(File.base64),
    "data_uri": _writer(File.data_uri),
}


def _restore(value: Any) -> Any:
    return None if value is None else {**value, "content": base64.b64decode(value["content"])}
