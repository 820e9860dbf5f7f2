"""`batchrun dataset`, and jobs that read named datasets: what is run on is known, stays the same, and is said."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import Ended, Project, ended
from tests.e2e.held import until


@pytest.fixture
def named(project: Project) -> Project:
    """The job reads the dataset `data`, of which there is none yet."""
    job = (project.folder / "job.yaml").read_text()
    project.write("job.yaml", job.replace("{path: data.csv, id: id}", "{name: data, version: latest, id: id}"))
    return project


def add(project: Project, *arguments: str, name: str = "data", path: str = "data.csv") -> str:
    """Add a version; returns its label."""
    done = project.batchrun("dataset", "add", name, path, *arguments)
    assert done.code == 0, done.err
    return done.out.strip()


def told(project: Project, *arguments: str) -> Any:
    """What a command tells programs."""
    done = project.batchrun("dataset", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def labels(project: Project) -> list[str]:
    return [f"{each['name']}@{each['version']}" for each in told(project, "list", "data")]


def record(done: Ended, code: int = 0) -> dict[str, Any]:
    assert done.code == code, done.err
    content: dict[str, Any] = json.loads(done.out)
    return content


@contextmanager
def nobody_commits(project: Project) -> Iterator[None]:
    """Whoever wants to write a version down waits until the block ends."""
    store = sqlite3.connect(project.folder / ".batchrun/store.db", isolation_level=None)
    store.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        store.rollback()
        store.close()


def test_a_dataset_is_added_listed_shown_compared_tagged_and_removed(project: Project) -> None:
    """The whole life of a dataset; unchanged content makes no version, and every command has a form for programs."""
    first = project.batchrun("dataset", "add", "data", "data.csv", "--copy")
    assert (first.code, first.out, first.err) == (0, "data@1\n", "made: 3 rows, 3 columns\n")
    again = project.batchrun("dataset", "add", "data", "data.csv")
    assert (again.code, again.out) == (0, "data@1\n") and again.err == "nothing has changed: its latest version has this content\n"
    project.write("data.csv", "id,text,size\na,one,1\nb,two,\nd,four,4\n")
    assert add(project, "--copy") == "data@2"
    assert project.batchrun("dataset", "tag", "data@1", "gold").err == "data@1 is tagged gold\n"
    header, line = project.batchrun("dataset", "list").out.splitlines()
    assert line.split()[:6] == ["data", "2", "3", "3", "37", "B"] and header.split()[0] == "name"
    assert labels(project) == ["data@2", "data@1"]

    page = project.batchrun("dataset", "show", "data@gold").out
    assert "data@1 (gold)" in page and "two, and a half" in page and "size    int64   0      1" in page
    shown = told(project, "show", "data")
    assert [column for column in shown["columns"] if column["name"] == "size"] == [
        {"name": "size", "type": "int64", "null_count": 1, "min": 1, "max": 4}
    ]
    assert shown["rows"][1] == {"id": "b", "text": "two", "size": None} and shown["versions"] == [2, 1]

    difference = told(project, "diff", "data", "gold", "latest", "--key", "id")
    assert [difference[f"{kind}_rows"] for kind in ("added", "removed", "changed", "unchanged")] == [1, 1, 1, 1]
    assert difference["changed"] == [{"key": "b", "columns": {"text": ["two, and a half", "two"], "size": [2, None]}}]
    assert "two, and a half" in project.batchrun("dataset", "diff", "data", "1", "2", "--key", "id").out

    refused = project.batchrun("dataset", "remove", "data@1")
    assert refused.code == 1 and refused.err == "kept data@1: tagged gold; to remove it all the same: --force\n"
    assert project.batchrun("dataset", "tag", "data", "gold", "--remove").code == 0
    removed = project.batchrun("dataset", "remove", "data", "--keep", "1")
    assert (removed.code, removed.out, removed.err) == (0, "data@1\n", "freed 53 B\n")
    assert labels(project) == ["data@2"]
    assert len([path for path in (project.folder / ".batchrun/datasets/.objects").rglob("*") if path.is_file()]) == 1


def test_errors_say_what_there_is(named: Project) -> None:
    """A wrong name, version, key or path is told with what would do; nothing is made by a command that fails."""
    missing = named.batchrun("run", "job.yaml")
    assert missing.code == 2 and missing.err.startswith("job.yaml:2:17 dataset.name: no dataset 'data': there are none in ")
    add(named)
    for arguments, sentence in {
        ("show", "dat"): "no dataset 'dat'; did you mean \"data\"?",
        ("show", "data@7"): "dataset 'data' has no version '7'; there are no tags; versions: 1",
        ("diff", "data", "1", "1", "--key", "ids"): 'has no column "ids"; did you mean "id"?',
        ("tag", "data", "gold"): "say which version of data is meant",
        ("tag", "data@1", "7"): "'7' cannot be a tag",
        ("add", "a/b", "data.csv"): "'a/b' cannot name a dataset",
        ("remove", "data"): "say which versions of data to remove",
    }.items():
        refused = named.batchrun("dataset", *arguments)
        assert (refused.code, refused.out) == (1, "") and sentence in refused.err, arguments
    for arguments, sentence in {
        ("add", "new", "nope.csv"): "nope.csv does not exist",
        ("add", "new", "data.csv", "--set", "limit=3"): "dataset.limit: belongs to the job",
    }.items():
        refused = named.batchrun("dataset", *arguments)
        assert refused.code == 2 and sentence in refused.err, arguments
    wrong = named.batchrun("validate", "job.yaml", "--set", "dataset.version=gold")
    assert wrong.code == 2 and "dataset.version: dataset 'data' has no version 'gold'; there are no tags; versions: 1" in wrong.err
    both = named.batchrun("validate", "job.yaml", "--set", "dataset.path=data.csv")
    assert both.code == 2 and "dataset.name: the dataset has a path, data.csv, and a name" in both.err
    assert labels(named) == ["data@1"] and told(named, "list")[0]["name"] == "data" and named.executions == []


def test_a_run_says_which_version_it_read(named: Project) -> None:
    """Number and fingerprint are in the record, in the result and on the page; a name, a tag and a date mean the same version."""
    add(named, "--copy")
    named.batchrun("dataset", "tag", "data@1", "gold")
    done = record(named.batchrun("run", "job.yaml", "-q", "--json"))
    (version,) = told(named, "list", "data")
    assert (done["dataset_name"], done["dataset_version"], done["dataset_fingerprint"]) == ("data", 1, version["fingerprint"])
    stored = pq.read_metadata(named.executions[0] / "results.parquet").metadata
    metadata = {key.decode(): value.decode() for key, value in stored.items()}
    assert [metadata[f"dataset_{key}"] for key in ("name", "version", "fingerprint")] == ["data", "1", version["fingerprint"]]
    assert "dataset    data@1\n" in named.batchrun("show", "latest").out
    named.write("data.csv", "id,text,size\nz,zwei,9\n")
    add(named, "--copy")
    for setting, number in {
        "dataset={name: data@gold, id: id}": 1,
        "dataset.version=1": 1,
        "dataset.version='2030-01-01'": 2,
        "dataset.version=latest": 2,
    }.items():
        assert record(named.batchrun("run", "job.yaml", "-q", "--json", "--set", setting))["dataset_version"] == number, setting


@pytest.mark.parametrize("how", ["edited", "same size", "gone", "more"])
def test_files_that_are_not_those_of_the_version_are_refused(named: Project, how: str) -> None:
    """A version that is no copy never stands for other rows: the files are named and nothing is run."""
    folder = named.folder / "tree"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(f"id,text,size\n{name},one,1\n")
    add(named, path="tree")
    change, sentence = {
        "edited": (lambda: (folder / "b.csv").write_text("id,text,size\nb,one more,1\n"), "b.csv has 26 bytes instead of 25"),
        "same size": (lambda: (folder / "b.csv").write_text("id,text,size\nb.csv,two,1\n"), "b.csv has other content"),
        "gone": ((folder / "a.csv").unlink, "a.csv is gone"),
        "more": (lambda: (folder / "c.csv").write_text("id,text,size\nc,one,1\n"), "c.csv is new"),
    }[how]
    change()
    refused = named.batchrun("run", "job.yaml")
    assert refused.code == 2 and f"dataset.name: dataset version changed on disk: data@1: {sentence}; put the files back" in refused.err
    assert named.executions == []
    assert add(named, path="tree") == "data@2"
    assert named.batchrun("run", "job.yaml", "-q").code == 0


def test_a_copy_outlives_its_source(named: Project) -> None:
    """Neither an edit nor the loss of the files touches a version that is kept; a damaged copy is noticed, and mended by adding again."""
    add(named, "--copy")
    (named.folder / "data.csv").rename(named.folder / "moved.csv")
    assert named.batchrun("run", "job.yaml", "-q").code == 0
    assert named.result.num_rows == 3
    (copy,) = [path for path in (named.folder / ".batchrun/datasets/.objects").rglob("*") if path.is_file()]
    copy.chmod(0o600)
    copy.write_bytes(copy.read_bytes().replace(b"three", b"drei!"))
    damaged = named.batchrun("run", "job.yaml", "-q")
    assert damaged.code == 2 and "data@1: data.csv has other content" in damaged.err
    (named.folder / "moved.csv").rename(named.folder / "data.csv")
    assert add(named, "--copy") == "data@1"
    assert named.batchrun("run", "job.yaml", "-q").code == 0


def test_a_resume_reads_the_version_it_began_with(named: Project) -> None:
    """A version that is added in between changes nothing for what has begun; a new run, or a rerun, may choose."""
    add(named, "--copy")
    paused = record(named.batchrun("run", "job.yaml", "-q", "--json", "--set", "run.budget.max_calls=1"), code=4)
    named.write("data.csv", "id,text,size\nx,other,7\n")
    assert add(named, "--copy") == "data@2"
    mixed = named.batchrun("resume", "latest", "-q", "--set", "dataset.version=2")
    assert mixed.code == 2 and "dataset.version changed from 1 to 2; an execution keeps its items" in mixed.err
    resumed = record(named.batchrun("resume", "latest", "-q", "--json", "--set", "run.budget.max_calls=null"))
    assert (resumed["execution_id"], resumed["dataset_version"], resumed["totals"]["completed_items"]) == (paused["execution_id"], 1, 3)
    assert named.result["source_item_id"].to_pylist() == ["a", "b", "c"]
    original = record(named.batchrun("rerun", paused["execution_id"], "-q", "--json", "--dataset-version", "original"))
    latest = record(named.batchrun("rerun", original["execution_id"], "-q", "--json"))
    assert [each["dataset_version"] for each in (original, latest)] == [1, 2]
    assert [each["totals"]["total_items"] for each in (original, latest)] == [3, 1]


def test_versions_that_executions_were_run_on_are_kept(named: Project) -> None:
    """Retention takes away nothing that a resume or a rerun may need, unless it is told to."""
    add(named, "--copy")
    assert named.batchrun("run", "job.yaml", "-q").code == 0
    for text in ("two", "three"):
        named.write("data.csv", f"id,text,size\na,{text},1\n")
        add(named, "--copy")
    kept = named.batchrun("dataset", "remove", "data", "--keep", "1")
    assert (kept.code, kept.out) == (0, "data@2\n") and f"kept data@1: used by {named.executions[0].name}" in kept.err
    assert named.batchrun("dataset", "remove", "data", "--keep", "1", "--force").out == "data@1\n"
    gone = named.batchrun("rerun", "latest", "--dataset-version", "original")
    assert gone.code == 2 and "dataset 'data' has no version '1'; there are no tags; versions: 3" in gone.err


@pytest.mark.parametrize("moment", ["workspace", "copy", "commit"])
def test_an_add_that_is_killed_leaves_no_half_version(project: Project, moment: str) -> None:
    """Whenever it is killed, the version is not there, and the next add makes it and clears up."""
    add(project, name="first")
    project.write("data.csv", "id,text,size\n" + "".join(f"{row},some text,{row}\n" for row in range(20_000)))
    datasets = project.folder / ".batchrun/datasets"
    with nobody_commits(project):
        adding = project.start("dataset", "add", "data", "data.csv", "--copy")
        seen = {
            "workspace": lambda: any(datasets.glob(".adding-*")),
            "copy": lambda: any(datasets.glob(".objects/*/*.csv")),
            "commit": lambda: any(datasets.glob(".adding-*/spool/*.parquet")),
        }[moment]
        until(lambda: seen() or adding.poll() is not None)
        assert adding.poll() is None
        adding.kill()
        ended(adding)
    assert [each["name"] for each in told(project, "list")] == ["first"]
    assert add(project, "--copy") == "data@1"
    assert labels(project) == ["data@1"] and not any(datasets.glob(".adding-*"))
    assert told(project, "show", "data", "--head", "1")["rows"] == [{"id": 0, "text": "some text", "size": 0}]


@pytest.mark.parametrize("are_same", [True, False])
def test_two_adds_at_once_make_as_many_versions_as_there_are_contents(project: Project, are_same: bool) -> None:
    """The same files make one version, different ones two, each complete."""
    add(project, name="first")
    project.write("other.csv", (project.folder / "data.csv").read_bytes() + (b"" if are_same else b"d,four,4\n"))
    (project.folder / "same").mkdir()
    paths = ["data.csv", "other.csv"]
    if are_same:
        (project.folder / "other.csv").rename(project.folder / "same/data.csv")
        paths[1] = "same/data.csv"
    adding = [project.start("dataset", "add", "data", path, "--copy") for path in paths]
    done = [ended(process) for process in adding]
    assert [each.code for each in done] == [0, 0], [each.err for each in done]
    assert sorted(each.out for each in done) == (["data@1\n", "data@1\n"] if are_same else ["data@1\n", "data@2\n"])
    assert len(labels(project)) == (1 if are_same else 2)


def test_a_lost_store_forgets_no_dataset(named: Project) -> None:
    """The file of the store is an index: versions, tags and numbers come back from their manifests."""
    add(named, "--copy")
    named.batchrun("dataset", "tag", "data@1", "gold")
    for path in Path(named.folder, ".batchrun").glob("store.db*"):
        path.unlink()
    assert told(named, "list", "data")[0]["tags"] == ["gold"]
    assert named.batchrun("run", "job.yaml", "-q", "--set", "dataset.version=gold").code == 0
    assert named.batchrun("list", "--rebuild").code == 0
    assert labels(named) == ["data@1"]


def test_files_are_read_as_they_were_added(named: Project) -> None:
    """How a file is written is said once, when it is added, and is part of the version; a job may still say otherwise."""
    named.write("data.csv", "id;text;size\na;one;1\nb;two;2\n".encode("utf-16"))
    how = [part for setting in ("csv.delimiter=';'", "csv.encoding=utf-16", "schema.size=string") for part in ("--set", setting)]
    assert add(named, *how) == "data@1"
    assert named.batchrun("run", "job.yaml", "-q").code == 0
    assert named.result["size"].to_pylist() == ["1", "2"]
    assert add(named, *how[:4]) == "data@2"
    assert record(named.batchrun("run", "job.yaml", "-q", "--json"))["dataset_version"] == 2
