"""Google's and Azure's object stores, against servers on this machine: what holds for Amazon's holds for them.

For Google's, the server is one of Amazon's kind, which takes any credentials; what the real one refuses is answered by another one.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake

from batchrun.testing.loopback import Answer, LoopbackServer, Received
from tests.e2e.conftest import Ended, Project
from tests.e2e.published import MARKER, is_whole, publishes, tree
from tests.object_store import ObjectStore, azure_store, google_store

ROWS = pl.DataFrame({"id": [f"r{n:03}" for n in range(300)], "text": ["a"] * 300, "size": range(300)})


@pytest.fixture(scope="module", params=["gs", "az"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """One server of each for all tests; each test has keys of its own."""
    with google_store(tmp_path_factory.mktemp("account")) if request.param == "gs" else azure_store() as running:
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


def no_secret_in(store: ObjectStore, project: Project, ended: Ended) -> None:
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    assert [path for path in files if store.secret.encode() in path.read_bytes()] == []
    assert store.secret not in ended.out + ended.err


@pytest.mark.parametrize(("key", "form"), [("pq/part=1/a b%20ü.parquet", "parquet"), ("csv/rows.csv", "csv")])
def test_a_job_reads_objects_as_it_reads_files(project: Project, store: ObjectStore, key: str, form: str) -> None:
    """In place and by a copy, by the address of the folder; the filter is applied, and the credentials stay in the environment."""
    store.put(key, ROWS.write_parquet if form == "parquet" else ROWS.write_csv)
    reads(project, f"{store.url}/{key.partition('/')[0]}", ', filter: "size >= 290"')
    done = project.batchrun("run", "job.yaml")
    assert done.code == 0, done.err
    assert project.result["source_item_id"].to_pylist() == [f"r{n:03}" for n in range(290, 300)]
    no_secret_in(store, project, done)


def test_patterns_and_delta_tables_are_datasets(project: Project, store: ObjectStore) -> None:
    """Hidden names are no data, and a table is read in the version that was found."""
    for name in ("a", "b", "_c"):
        store.put(f"many/{name}.parquet", ROWS.with_columns(id=pl.col("id") + name).write_parquet)
    reads(project, f"{store.url}/many/*.parquet")
    done = project.batchrun("run", "job.yaml")
    assert (done.code, project.result.num_rows) == (0, 600), done.err
    address = f"{store.url}/tables/rows"
    write_deltalake(address, ROWS)
    write_deltalake(address, ROWS.with_columns(id=pl.col("id") + "x"), mode="append")
    counted = project.batchrun("plan", "job.yaml", "--set", f"dataset.path={address}", "--set", "dataset.version=0", "--json")
    assert counted.code == 0 and json.loads(counted.out)["total_items"] == 300, counted.err


def test_an_object_that_changed_is_named(project: Project, store: ObjectStore) -> None:
    """Also here, etags are what tells one content from another."""
    address = store.put("changing/a.parquet", ROWS.with_columns(text=pl.lit("bad")).write_parquet)
    reads(project, address)
    assert project.batchrun("run", "job.yaml").code == 3
    store.put("changing/a.parquet", ROWS.write_parquet)
    done = project.batchrun("retry", project.record["execution_id"])
    assert done.code == 2 and "(a.parquet has other content)" in done.err, done.err


def test_results_are_published_whole_and_again(project: Project, store: ObjectStore) -> None:
    """Small files and those that are sent in parts; what is gone is removed, and the marker is right."""
    publishes(project, f"{store.url}/published")
    noise = [os.urandom(3_000_000).hex() for _ in range(3)]
    project.write("data.csv", pl.DataFrame({"id": range(4), "text": [*noise, "bad"], "size": range(4)}).write_csv())
    done = project.batchrun("run", "job.yaml")
    assert done.code == 3, done.err
    files, (folder,) = tree(store, project), project.executions
    assert is_whole(files) and {"results.parquet", "failures.parquet", "execution.json", MARKER} < files.keys(), done.err
    assert files["results.parquet"] == (folder / "results.parquet").read_bytes() and len(files["results.parquet"]) > 10_000_000
    steps = (project.folder / "steps.py").read_text()
    project.write("steps.py", steps.replace('if text == "bad"', 'if text == "worse"'))
    again = project.batchrun("retry", "latest", "--accept-changes")
    assert again.code == 0, again.err
    files = tree(store, project)
    assert is_whole(files) and "failures.parquet" not in files
    no_secret_in(store, project, again)
    reads(project, f"{store.url}/published/{project.record['execution_id']}/results.parquet")


def test_a_delta_table_in_a_bucket_takes_results(project: Project, store: ObjectStore) -> None:
    """One commit of each execution."""
    job = (project.folder / "job.yaml").read_text()
    project.write("job.yaml", job.replace("keep: [size]}", f"keep: [size], export: [{{type: delta, path: '{store.url}/loud'}}]}}"))
    for _ in range(2):
        done = project.batchrun("run", "job.yaml")
        assert done.code == 0, done.err
    assert project.batchrun("dataset", "add", "loud", f"{store.url}/loud").out.strip() == "loud@1"
    assert json.loads(project.batchrun("dataset", "show", "loud", "--json").out)["row_count"] == 6


def test_what_is_missing_is_refused_by_name(project: Project, store: ObjectStore) -> None:
    """An object, a bucket to read, and a bucket to publish to, which loses nothing."""
    reads(project, f"{store.url}/nothing")
    done = project.batchrun("validate", "job.yaml")
    assert done.code == 2 and f'nothing in the bucket "{store.bucket}" has such a name' in done.err, done.err
    other = f"{store.scheme}://no-such-bucket"
    done = project.batchrun("validate", "job.yaml", "--set", f"dataset.path={other}/x.csv")
    assert done.code == 2 and 'it does not exist in the bucket "no-such-bucket", or the bucket does not' in done.err, done.err
    done = project.batchrun("run", "job.yaml", "--set", "dataset.path=data.csv", "--set", f"output.publish={other}")
    assert done.code == 0 and 'there is no bucket "no-such-bucket"' in done.err, done.err
    assert (project.record["status"], project.record["publish"]["published_at"]) == ("completed", None)
    done = project.batchrun("publish", "latest", "--to", f"{store.url}/after")
    assert done.code == 0 and is_whole(tree(store, project, "after")), done.err


def test_wrong_credentials_are_told_with_the_variables_they_come_from(
    project: Project, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For reading and for publishing; never with what is in the variables."""
    account = tmp_path_factory.mktemp("wrong") / "account.json"
    with LoopbackServer(_refuses) as refusing:
        if store.scheme == "gs":
            told = json.loads(Path(store.environment["GOOGLE_SERVICE_ACCOUNT"]).read_text())
            account.write_text(json.dumps({**told, "gcs_base_url": refusing.url}))
            monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(account))
        else:
            monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"another-key").decode())
        read = project.batchrun("validate", "job.yaml", "--set", f"dataset.path={store.url}/a.csv")
        done = project.batchrun("run", "job.yaml", "--set", f"output.publish={store.url}/refused")
    variable = {"gs": "GOOGLE_SERVICE_ACCOUNT", "az": "AZURE_STORAGE_ACCOUNT_KEY"}[store.scheme]
    refused = f'does not let these credentials read the bucket "{store.bucket}"'
    assert read.code == 2 and refused in read.err and variable in read.err, read.err
    assert done.code == 0 and "does not let these credentials write to" in done.err and variable in done.err, done.err
    assert project.record["status"] == "completed"
    no_secret_in(store, project, done)


def _refuses(request: Received) -> Answer:
    return Answer(status=403, body=b"<Error><Code>AccessDenied</Code></Error>")
