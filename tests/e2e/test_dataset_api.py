"""Named datasets from Python."""

from __future__ import annotations

import asyncio
from pathlib import Path

import polars as pl
import pytest

import batchrun
from batchrun.core.dataset_names import NoSuchDataset
from tests.e2e.conftest import Project


def twice(item: dict[str, int]) -> int:
    return item["x"] * 2


def test_a_program_makes_reads_and_compares_versions(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data frame becomes a version, a job runs on it by its name, and the same frame makes no other one."""
    monkeypatch.chdir(project.folder)
    with batchrun.Client() as client:
        frame = pl.DataFrame({"id": [1, 2], "x": [10, 20]})
        first = client.datasets.add("numbers", frame)
        assert (first.is_new, first.version.label, first.version.is_copy, first.version.path) == (True, "numbers@1", True, "")
        assert not client.datasets.add("numbers", frame).is_new
        second = client.datasets.add("numbers", frame.with_columns(x=pl.col("x") + pl.col("id") - 1))
        client.datasets.tag("numbers@1", "gold")
        assert [version.label for version in client.datasets.list("numbers")] == ["numbers@2", "numbers@1"]
        assert client.datasets.list() == [second.version]
        assert client.datasets.get("numbers@gold").fingerprint == first.version.fingerprint
        assert client.datasets.head("numbers", rows=1) == [{"id": 1, "x": 10}]
        changes = client.datasets.diff("numbers", "gold", "latest", key="id")
        assert (changes.changed_rows, changes.changed_columns) == (1, {"x": 1})
        execution = batchrun.map(twice, "numbers@gold", quiet=True)
        assert execution.results["output"].to_pylist() == [20, 40]
        assert execution.record["dataset_version"] == 1
        client.datasets.untag("numbers", "gold")
        assert [version.label for version, _ in client.datasets.remove("numbers", keep=1).kept] == ["numbers@1"]
        with pytest.raises(NoSuchDataset, match="no version 'gold'"):
            client.datasets.get("numbers@gold")


def test_an_asynchronous_client_has_the_same_names(tmp_path: Path) -> None:
    """What a program with an event loop may ask is the same, to be awaited."""
    (tmp_path / "t.csv").write_text("id,x\n1,2\n")

    async def main() -> list[str]:
        async with batchrun.AsyncClient(tmp_path / "home") as client:
            await client.datasets.add("t", batchrun.Dataset(path=str(tmp_path / "t.csv")), copy=True)
            await client.datasets.tag("t@1", "gold")
            assert await client.datasets.head("t@gold") == [{"id": 1, "x": 2}]
            assert (await client.datasets.diff("t", 1, "gold", key="id")).is_empty
            await client.datasets.untag("t", "gold")
            assert (await client.datasets.get("t")).tags == ()
            labels = [version.label for version in await client.datasets.list()]
            assert len((await client.datasets.remove("t@1")).versions) == 1
            return labels

    assert asyncio.run(main()) == ["t@1"]
    public = {name for name in dir(batchrun.Client().datasets) if not name.startswith("_")}
    assert public == {name for name in dir(batchrun.AsyncClient().datasets) if not name.startswith("_")}
