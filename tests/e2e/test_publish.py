"""Results published in an object store: a server on this machine; nobody's credentials get anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import batchrun
from tests.e2e.conftest import Ended, Project, default_home
from tests.e2e.published import MARKER, is_whole, publishes, tree
from tests.object_store import SECRET, ObjectStore, object_store


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


def test_the_files_of_an_execution_are_copied_and_no_others(publishing: Project, store: ObjectStore) -> None:
    """Result, exports, folders of odd names, report and record, with the marker; no journal, no control files, no secret."""
    job = (publishing.folder / "job.yaml").read_text()
    exports = "export: [csv, {type: parquet, partition_by: [text]}], events: true, keep: [size, text]"
    publishing.write("job.yaml", job.replace("keep: [size]", exports))
    publishing.write("data.csv", "id,text,size\na,one/ä =%,1\nb,bad,2\n")
    done = publishing.batchrun("run", "job.yaml")
    assert done.code == 3, done.err
    files, record, (folder,) = tree(store, publishing), publishing.record, publishing.executions
    names = {"results.parquet", "failures.parquet", "results.csv", "report.html", "execution.json", "events.jsonl", MARKER}
    partitions = {path.relative_to(folder).as_posix() for path in (folder / "partitions").rglob("*") if path.is_file()}
    assert len(partitions) == 2
    assert files.keys() == names | partitions
    assert is_whole(files)
    assert all(files[name] == (folder / name).read_bytes() for name in files if name != MARKER)
    assert record["publish"]["url"] == f"s3://{store.bucket}/published/{record['execution_id']}"
    assert record["publish"]["published_at"] is not None and "error" not in record["publish"]
    assert record["publish"]["url"] in done.err
    assert SECRET not in done.out + done.err and not any(SECRET.encode() in content for content in files.values())


def test_publishing_again_replaces_what_is_there_and_nothing_beside_it(publishing: Project, store: ObjectStore) -> None:
    """Objects that are no files any more are removed; those of other executions are not."""
    assert publishing.batchrun("run", "job.yaml").code == 0
    before, id = tree(store, publishing), publishing.record["execution_id"]
    store.put(f"published/{id}/partitions/old.parquet", b"old")
    beside = store.put(f"published/{id}-other/results.parquet", b"of another").partition("/published/")[2]
    done = publishing.batchrun("publish", id)
    assert (done.code, done.out.strip()) == (0, f"s3://{store.bucket}/published/{id}"), done.err
    after = tree(store, publishing)
    assert is_whole(after) and after.keys() == before.keys() and after["results.parquet"] == before["results.parquet"]
    assert store.get(f"published/{beside}") == b"of another"


def test_a_retry_publishes_its_result_in_the_place_of_the_earlier_one(publishing: Project, store: ObjectStore) -> None:
    """Readers find one result of an execution, the one of now."""
    publishing.write("data.csv", "id,text,size\na,one,1\nb,bad,2\n")
    assert publishing.batchrun("run", "job.yaml").code == 3
    assert "failures.parquet" in tree(store, publishing)
    steps = (publishing.folder / "steps.py").read_text()
    publishing.write("steps.py", steps.replace('if text == "bad"', 'if text == "worse"'))
    done = publishing.batchrun("retry", publishing.record["execution_id"], "--accept-changes")
    assert done.code == 0, done.err
    files = tree(store, publishing)
    assert is_whole(files) and "failures.parquet" not in files
    assert pl.read_parquet(files["results.parquet"])["status"].to_list() == ["completed", "completed"]


def test_a_wrong_bucket_loses_nothing(project: Project, store: ObjectStore) -> None:
    """The execution is completed; people are told what to do, also when they asked for quiet, and also later."""
    publishes(project, "s3://no-such-bucket/published")
    done = project.batchrun("run", "job.yaml", "--quiet")
    assert done.code == 0 and 'there is no bucket "no-such-bucket"' in done.err and "batchrun publish" in done.err, done.err
    record = project.record
    assert (record["status"], record["publish"]["published_at"], project.result.num_rows) == ("completed", None, 3)
    assert 'there is no bucket "no-such-bucket"' in record["publish"]["error"]
    assert "to publish it: batchrun publish" in project.batchrun("show").out
    again = project.batchrun("publish")
    assert again.code == 1 and 'there is no bucket "no-such-bucket"' in again.err, again.err
    elsewhere = project.batchrun("publish", "--to", f"s3://{store.bucket}/published")
    assert elsewhere.code == 0 and is_whole(tree(store, project)), elsewhere.err


def test_without_credentials_their_names_are_told(publishing: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the variables, never what is in them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    done = publishing.batchrun("run", "job.yaml")
    assert done.code == 0 and "AWS_ACCESS_KEY_ID" in done.err, done.err
    assert publishing.record["status"] == "completed" and "AWS_ACCESS_KEY_ID" in publishing.record["publish"]["error"]


def test_a_second_place_gets_a_copy_too(publishing: Project, store: ObjectStore) -> None:
    """When another place does not take it, what is known of the first one still holds."""
    assert publishing.batchrun("run", "job.yaml").code == 0
    told = publishing.record["publish"]
    failed = publishing.batchrun("publish", "--to", "s3://no-such-bucket")
    assert failed.code == 1 and publishing.record["publish"] == told, failed.err
    done = publishing.batchrun("publish", "--to", f"s3://{store.bucket}/second/place/")
    assert done.code == 0, done.err
    assert is_whole(tree(store, publishing, "second/place")) and is_whole(tree(store, publishing))
    assert (
        publishing.record["publish"]["url"] == done.out.strip() == f"s3://{store.bucket}/second/place/{publishing.record['execution_id']}"
    )


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("ftp://host/x", "ftp://… is not the address of an object store; allowed are s3://, gs://, az://"),
        ("results", "must be an address such as s3://bucket/folder"),
        (f"s3://me:{SECRET}@bucket/x", "credentials must not be in the address; they come from the environment: AWS_ACCESS_KEY_ID"),
        (f"az://container/x?sig={SECRET}", "must have nothing after ? or #"),
        ("s3:///x", "has no bucket"),
        ("s3://bucket/a/../b", "must not have empty parts, . or .."),
    ],
)
def test_what_cannot_be_an_address_is_refused_before_the_first_item(project: Project, address: str, problem: str) -> None:
    """In the job with its line, and on the command line; nothing of a secret is shown or written down."""
    assert project.batchrun("run", "job.yaml").code == 0
    to = project.batchrun("publish", "--to", address)
    assert to.code == 2 and problem in to.err, to.err
    publishes(project, address)
    done = project.batchrun("run", "job.yaml")
    assert done.code == 2 and f"output.publish: {problem}" in done.err.replace(f" {address}", ""), done.err
    assert SECRET not in to.err + done.err + done.out
    assert len(project.executions) == 1


def test_validate_and_plan_say_where_results_will_go(publishing: Project, store: ObjectStore) -> None:
    """Before anything is there."""
    address = f"s3://{store.bucket}/published"
    assert f"results will be published to {address}" in publishing.batchrun("validate", "job.yaml").err
    assert f"publish   {address}" in publishing.batchrun("plan", "job.yaml").out
    assert batchrun.plan(publishing.folder / "job.yaml").publish == address


def test_a_missing_library_is_named_before_the_first_item(publishing: Project) -> None:
    """With the extra that brings it."""
    program = "import sys; sys.modules['obstore'] = None; from batchrun.cli import main; main()"
    command = [sys.executable, "-c", program, "validate", "job.yaml"]
    done = subprocess.run(command, cwd=publishing.folder, capture_output=True, text=True, check=False, env=default_home())
    assert done.returncode == 2 and "output.publish: needs the package obstore: pip install 'batchrun[cloud]'" in done.stderr, done.stderr


def test_what_is_not_completed_is_published_only_when_asked(publishing: Project, store: ObjectStore) -> None:
    """A part of the items in the place of all would be taken for the result."""
    done = publishing.batchrun("run", "job.yaml", "--set", "run.budget.max_calls=1", "--set", "run.parallelism=1")
    assert done.code == 4 and "publish" not in publishing.record and not tree(store, publishing), done.err
    assert publishing.batchrun("publish").code == 0
    assert json.loads(tree(store, publishing)["execution.json"])["status"] == "paused"
    resumed = publishing.batchrun("resume", "--set", "run.budget.max_calls=null")
    assert resumed.code == 0, resumed.err
    files = tree(store, publishing)
    assert is_whole(files) and json.loads(files["execution.json"])["status"] == "completed"


def test_refresh_and_processes_of_their_own_publish_too(publishing: Project, store: ObjectStore) -> None:
    """As each execution has its own folder, older results stay as they are."""
    first = batchrun.submit(publishing.folder / "job.yaml")
    assert first.wait(timeout_seconds=250) == "completed"
    publishing.write("data.csv", (publishing.folder / "data.csv").read_text() + "d,four,4\n")
    done: Ended = publishing.batchrun("refresh", "job.yaml")
    assert done.code == 0, done.err
    keys = store.keys()
    marked = {key.split("/")[1] for key in keys if key.endswith(MARKER)}
    assert {path.name for path in publishing.executions} <= marked


async def test_python_publishes_and_awaits_it(project: Project, store: ObjectStore, tmp_path: Path) -> None:
    """The same from programs, which see it in the record at once; without an address it is refused."""
    execution = batchrun.execute(project.folder / "job.yaml", quiet=True)
    with pytest.raises(batchrun.ExecutionError, match=r"has no output\.publish: say where"):
        execution.publish()
    address = execution.publish(f"s3://{store.bucket}/python")
    assert address == execution.record["publish"]["url"] == f"s3://{store.bucket}/python/{execution.id}"
    async with batchrun.AsyncClient() as client:
        awaited = await client.executions.get(execution.id)
        assert await awaited.publish(f"s3://{store.bucket}/awaited") == f"s3://{store.bucket}/awaited/{execution.id}"
    assert is_whole(tree(store, project, "python")) and is_whole(tree(store, project, "awaited"))
