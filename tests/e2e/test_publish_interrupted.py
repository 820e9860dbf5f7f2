"""Publishing that is broken off: by the store, a signal, or the end of the process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import polars as pl
import pytest

from batchrun.testing.loopback import Answer, Received
from tests.e2e.conftest import Project
from tests.e2e.published import MARKER, before_the_store, is_whole, publishes, tree
from tests.object_store import ObjectStore, object_store


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    """One server for all tests; each execution has a folder of its own in it."""
    with object_store() as running:
        yield running


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server, and in the environment what leads to it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def publishing(project: Project, store: ObjectStore) -> Project:
    """A project whose job publishes."""
    publishes(project, f"s3://{store.bucket}/published")
    return project


def test_a_store_that_breaks_off_in_the_middle_leaves_no_marker(
    publishing: Project, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the one of an earlier end: what is there is of both. Publishing again makes it whole."""
    noise = pl.DataFrame({"id": range(3), "text": [os.urandom(2_000_000).hex() for _ in range(3)], "size": range(3)})
    publishing.write("data.csv", noise.write_csv())
    assert publishing.batchrun("run", "job.yaml").code == 0
    id = publishing.record["execution_id"]
    assert is_whole(tree(store, publishing))

    def breaks(request: Received) -> Answer | None:
        return Answer(raw=b"", reset=True) if "partNumber=2" in request.path else None

    with before_the_store(store, breaks) as broken:
        monkeypatch.setenv("AWS_ENDPOINT_URL", broken.url)
        done = publishing.batchrun("publish", id)
    assert done.code == 1 and f"{id} was not published" in done.err, done.err
    assert MARKER not in tree(store, publishing)
    record = publishing.record
    assert (record["status"], record["publish"]["published_at"]) == ("completed", None) and record["publish"]["error"] in done.err
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    assert publishing.batchrun("publish", id).code == 0
    assert is_whole(tree(store, publishing)) and "error" not in publishing.record["publish"]


def test_a_process_killed_while_it_publishes_has_lost_nothing(
    publishing: Project, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The execution is completed, it is seen that it is not published, and publishing it is one command."""
    process: list[subprocess.Popen[str]] = []

    def kills(request: Received) -> Answer | None:
        if request.method == "PUT" and process:
            process[0].kill()
            return Answer(raw=b"")
        return None

    with before_the_store(store, kills) as killing:
        monkeypatch.setenv("AWS_ENDPOINT_URL", killing.url)
        process.append(publishing.start("run", "job.yaml"))
        process[0].communicate(timeout=250)
    assert process[0].returncode == -signal.SIGKILL
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    assert (publishing.record["status"], publishing.record["publish"]["published_at"]) == ("completed", None)
    assert "not published to" in publishing.batchrun("show").out
    assert publishing.batchrun("publish").code == 0
    assert is_whole(tree(store, publishing))


def test_a_signal_ends_the_publishing_and_not_the_execution(
    publishing: Project, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wants out gets out; the result is there."""
    process: list[subprocess.Popen[str]] = []

    def interrupts(request: Received) -> Answer | None:
        if request.method == "PUT" and process:
            process.pop().send_signal(signal.SIGINT)
        return None

    with before_the_store(store, interrupts) as interrupting:
        monkeypatch.setenv("AWS_ENDPOINT_URL", interrupting.url)
        started = publishing.start("run", "job.yaml")
        process.append(started)
        _, err = started.communicate(timeout=250)
    assert started.returncode == 0 and "stopped by SIGINT" in publishing.record["publish"]["error"], err
    assert publishing.record["status"] == "completed" and MARKER not in tree(store, publishing)
