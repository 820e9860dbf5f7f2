"""Jobs over datasets in an object store, run against a server on this machine; nobody's credentials get anywhere."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from tests.e2e.conftest import Ended, Project
from tests.object_store import SECRET, ObjectStore, object_store

ROWS = pl.DataFrame({"id": [f"r{n:03}" for n in range(300)], "text": ["a"] * 300, "size": range(300)})


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    """One server for all tests; each has keys of its own."""
    with object_store() as running:
        yield running


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server, and in the environment what leads to it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


def reads(project: Project, path: str, rest: str = "") -> None:
    """Let the job read another dataset."""
    job = (project.folder / "job.yaml").read_text()
    project.write("job.yaml", job.replace("{path: data.csv, id: id}", f'{{path: "{path}", id: id{rest}}}'))


def no_secret_in(project: Project, ended: Ended) -> None:
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in ended.out + ended.err


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("pq/part=1/a b%20ü.parquet", "parquet"),
        ("csv/rows.csv", "csv"),
        ("packed/rows.csv.gz", "gzip"),
        ("nd/rows.ndjson", "ndjson"),
        ("ipc/rows.arrow", "arrow"),
    ],
)
def test_a_job_reads_objects_as_it_reads_files(project: Project, store: ObjectStore, key: str, form: str) -> None:
    """Every format, by the address of its folder; the filter is applied, and the credentials stay in the environment."""
    write = {
        "parquet": ROWS.write_parquet,
        "csv": ROWS.write_csv,
        "gzip": gzip.compress(ROWS.write_csv().encode()),
        "ndjson": ROWS.write_ndjson,
        "arrow": ROWS.write_ipc,
    }
    store.put(key, write[form])
    reads(project, f"s3://{store.bucket}/{key.partition('/')[0]}", ', filter: "size >= 290"')
    done = project.batchrun("run", "job.yaml")
    assert done.code == 0, done.err
    assert project.result["source_item_id"].to_pylist() == [f"r{n:03}" for n in range(290, 300)]
    no_secret_in(project, done)


def test_a_pattern_and_a_single_object_are_datasets(project: Project, store: ObjectStore) -> None:
    """As with local files, hidden names are no data."""
    for name in ("a", "b", "_c"):
        store.put(f"many/{name}.parquet", ROWS.with_columns(id=pl.col("id") + name).write_parquet)
    reads(project, f"s3://{store.bucket}/many/*.parquet")
    done = project.batchrun("run", "job.yaml", "--set", "dataset.limit=null")
    assert (done.code, project.result.num_rows) == (0, 600), done.err
    done = project.batchrun("run", "job.yaml", "--set", f"dataset.path=s3://{store.bucket}/many/b.parquet")
    assert pq.read_metadata(project.executions[1] / "results.parquet").num_rows == 300, done.err


def test_a_delta_table_in_a_bucket_is_a_dataset(project: Project, store: ObjectStore) -> None:
    """The version is pinned: it is read again by the next command, whatever was committed since."""
    address = f"s3://{store.bucket}/tables/rows"
    write_deltalake(address, ROWS)
    reads(project, address)
    assert project.batchrun("run", "job.yaml").code == 0
    write_deltalake(address, ROWS.with_columns(id=pl.col("id") + "x"), mode="append")
    record = project.record
    assert (record["dataset_version"], record["dataset_version_wanted"], project.result.num_rows) == (0, "latest", 300)
    done = project.batchrun("resume", record["execution_id"])
    assert done.code == 0, done.err


def test_an_object_that_changed_is_named_when_the_execution_goes_on(project: Project, store: ObjectStore) -> None:
    """Half a result of one content and half of another would be worse than none."""
    address = store.put("changing/a.parquet", ROWS.with_columns(text=pl.lit("bad")).write_parquet)
    store.put("changing/b.parquet", ROWS.with_columns(id=pl.col("id") + "b").write_parquet)
    reads(project, address.rpartition("/")[0])
    assert project.batchrun("run", "job.yaml").code == 3
    store.put("changing/a.parquet", ROWS.write_parquet)
    done = project.batchrun("retry", project.record["execution_id"])
    assert done.code == 2 and "(a.parquet has other content)" in done.err, done.err


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("s3://data-bucket/nothing", 's3://data-bucket/nothing does not exist: nothing in the bucket "data-bucket" has such a name'),
        ("s3://no-such-bucket/x.csv", 'it does not exist in the bucket "no-such-bucket", or the bucket does not'),
        ("s3://me:canary-5e1f-secret-key@data-bucket/x.csv", "credentials must not be in the address"),
        ("ftp://host/x.csv", "ftp://… is not the address of an object store; allowed are s3://, gs://, az://"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(project: Project, store: ObjectStore, path: str, problem: str) -> None:
    """The message names bucket and key, and never shows what may be a secret."""
    reads(project, path)
    done = project.batchrun("validate", "job.yaml")
    assert done.code == 2 and problem in done.err, done.err
    assert SECRET not in done.out + done.err


def test_a_store_that_does_not_answer_is_told(project: Project, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the names of the settings that may be wrong."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = project.batchrun("validate", "job.yaml", "--set", f"dataset.path=s3://{store.bucket}/a.csv")
    assert done.code == 2 and "is the store reachable" in done.err and "AWS_ENDPOINT_URL" in done.err, done.err


def test_named_datasets_are_objects_too(project: Project, store: ObjectStore, tmp_path: Path) -> None:
    """A version refers to the objects as they were; copies are of local files."""
    address = store.put("named/rows.csv", ROWS.write_csv)
    assert project.batchrun("dataset", "add", "rows", address).out.strip() == "rows@1"
    assert project.batchrun("dataset", "add", "rows", address).out.strip() == "rows@1"
    assert "only local" in project.batchrun("dataset", "add", "rows", address, "--copy").err
    reads(project, "")
    job = (project.folder / "job.yaml").read_text()
    project.write("job.yaml", job.replace('path: "", id', "name: rows, id"))
    assert project.batchrun("run", "job.yaml").code == 0
    store.put("named/rows.csv", ROWS.head(9).write_csv)
    done = project.batchrun("run", "job.yaml")
    assert done.code == 2 and "dataset version changed on disk: rows@1: rows.csv has" in done.err, done.err
