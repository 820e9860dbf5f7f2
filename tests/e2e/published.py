"""What is published of an execution, and a server before the object store that may answer in its place."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from batchrun.testing.loopback import Answer, LoopbackServer, Received
from tests.e2e.conftest import Project
from tests.object_store import ObjectStore

MARKER = "_SUCCESS"


def publishes(project: Project, address: str) -> None:
    job = (project.folder / "job.yaml").read_text()
    project.write("job.yaml", job.replace("keep: [size]}", f'keep: [size], publish: "{address}"}}'))


def tree(store: ObjectStore, project: Project, prefix: str = "published") -> dict[str, bytes]:
    """What is published of the only execution."""
    root, keys = f"{prefix}/{project.record['execution_id']}/", store.keys()
    return {key.removeprefix(root): store.get(key) for key in keys if key.startswith(root)}


def is_whole(files: dict[str, bytes]) -> bool:
    """Whether the marker is there, and all it tells of and nothing else."""
    told = json.loads(files[MARKER])["files"] if MARKER in files else None
    return told == {name: len(content) for name, content in files.items() if name != MARKER}


def forwarded(store: ObjectStore, request: Received) -> Answer:
    """What the store says to a request that came to another server."""
    headers = {name: value for name, value in request.headers.items() if name not in {"connection", "transfer-encoding"}}
    again = urllib.request.Request(f"{store.endpoint}{request.path}", request.body or None, headers, method=request.method)  # noqa: S310
    try:
        with urllib.request.urlopen(again) as answer:  # noqa: S310 - the address of the server
            return Answer(status=answer.status, headers=_kept(answer.headers), body=answer.read())
    except urllib.error.HTTPError as error:
        return Answer(status=error.code, headers=_kept(error.headers), body=error.read())


def _kept(headers: Any) -> dict[str, str]:
    return {name: headers[name] for name in ("ETag", "Content-Type", "Last-Modified") if name in headers}


def before_the_store(store: ObjectStore, at: Callable[[Received], Answer | None]) -> LoopbackServer:
    """A server before the store that may answer in its place."""
    return LoopbackServer(lambda request: at(request) or forwarded(store, request))
