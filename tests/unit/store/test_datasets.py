"""Named datasets in the store: numbers, tags, times, and what is left when files are lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.dataset_names import BadName, NoSuchDataset
from batchrun.core.dataset_versions import Column, Content, DatasetVersion, VersionFile
from batchrun.store import DatasetStore, Store, StoreError
from batchrun.store.manifests import Manifests

FIRST = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


def version(name: str, number: int, digest: str = "abcd") -> DatasetVersion:
    files = (VersionFile("t.csv", 3, digest),)
    content = Content(fingerprint=digest, format="csv", row_count=1, columns=(Column("a", "int64", 0, 1, 1),), files=files)
    made = FIRST + timedelta(days=number - 1)
    return DatasetVersion(name=name, version=number, created_at=made, path="/data/t.csv", is_copy=True, content=content)


@pytest.fixture
def datasets(home: Path) -> Iterator[DatasetStore]:
    with DatasetStore.open(home) as opened:
        yield opened


def add(datasets: DatasetStore, name: str = "tickets", digest: str = "abcd") -> DatasetVersion:
    return datasets.add(name, lambda _, number: version(name, number, digest))


def labels(datasets: DatasetStore, name: str = "tickets") -> list[str]:
    return [each.label for each in datasets.versions(name)]


def test_versions_are_numbered_and_found_as_they_were_stored(datasets: DatasetStore) -> None:
    """What comes back is what was put in, newest first; each dataset counts for itself."""
    made = [add(datasets), add(datasets), add(datasets, "airports")]
    assert [each.label for each in made] == ["tickets@1", "tickets@2", "airports@1"]
    assert datasets.versions("tickets") == [made[1], made[0]]
    assert datasets.latest() == [made[2], made[1]]


def test_a_version_is_found_by_number_tag_and_time(datasets: DatasetStore) -> None:
    """A day means its end, a moment that moment, and a tag the version it was given to last."""
    for _ in range(3):
        add(datasets)
    assert datasets.tag("tickets", 1, "gold") is None
    assert datasets.tag("tickets", 2, "gold") == 1
    for text, number in {
        "latest": 3,
        "2": 2,
        1: 1,
        "gold": 2,
        "2026-11-02": 2,
        "2026-11-02T09:29:59Z": 1,
        "2026-11-02T09:30:00Z": 2,
        "2030-01-01": 3,
    }.items():
        assert datasets.find("tickets", text).version == number, text
    assert datasets.find("tickets", "gold").tags == ("gold",)


def test_errors_name_what_there_is(datasets: DatasetStore) -> None:
    """A typing error is told from a version that was removed, with the names that would do."""
    with pytest.raises(NoSuchDataset, match=r"no dataset 'tickets': there are none in .*; make it: batchrun dataset add tickets PATH"):
        datasets.find("tickets")
    add(datasets)
    datasets.tag("tickets", 1, "gold")
    with pytest.raises(NoSuchDataset, match="no dataset 'tikets'; did you mean \"tickets\""):
        datasets.find("tikets")
    with pytest.raises(NoSuchDataset, match="no version '7'; tags: gold; versions: 1; a date and latest"):
        datasets.find("tickets", 7)
    with pytest.raises(NoSuchDataset, match="no version 'gild'; did you mean \"gold\""):
        datasets.find("tickets", "gild")
    with pytest.raises(NoSuchDataset, match="no version of 2026-10-01: the oldest there is, 1, is of 2026-11-01 09:30 UTC"):
        datasets.find("tickets", "2026-10-01")
    for wrong in ("../x", "a@b"):
        with pytest.raises(BadName):
            add(datasets, wrong)
    with pytest.raises(NoSuchDataset):
        datasets.tag("tickets", 2, "gold")


def test_the_index_may_be_deleted_at_any_time(datasets: DatasetStore, home: Path) -> None:
    """Manifests are the truth: versions, tags and numbers are there again without being asked for."""
    add(datasets)
    add(datasets)
    datasets.tag("tickets", 1, "gold")
    before = datasets.versions("tickets")
    datasets.close()
    for path in home.glob("store.db*"):
        path.unlink()
    with DatasetStore.open(home) as again:
        assert again.versions("tickets") == before
        assert add(again).version == 3


def test_a_list_of_executions_made_anew_keeps_datasets(datasets: DatasetStore, home: Path) -> None:
    """`batchrun list --rebuild` forgets executions, not versions."""
    add(datasets)
    with Store.open(home) as store:
        store.rebuild([], print)
    assert labels(datasets) == ["tickets@1"]


def test_what_a_killed_process_left_is_no_half_version(datasets: DatasetStore, home: Path) -> None:
    """A manifest is written in one step: before it there is no version, after it there is one, whatever the index says."""
    add(datasets)
    files = Manifests(home / "datasets")
    (home / "datasets/tickets/.2.json.tmp").write_text('{"name": "tick')
    with DatasetStore.open(home) as again:
        assert labels(again) == ["tickets@1"]
    files.write("tickets", 2, json.loads(json.dumps(version("tickets", 2).plain())))
    with DatasetStore.open(home) as again:
        assert labels(again) == ["tickets@2", "tickets@1"]
        assert add(again).version == 3


def test_a_damaged_manifest_is_named(datasets: DatasetStore, home: Path) -> None:
    """Nobody has to guess which file to put back."""
    add(datasets)
    datasets.close()
    (home / "datasets/tickets/1.json").write_text("{}")
    for path in home.glob("store.db*"):
        path.unlink()
    with pytest.raises(StoreError, match=r"tickets/1\.json is damaged .*put back a copy of it, or delete it"):
        DatasetStore.open(home)


def test_numbers_are_never_given_again(datasets: DatasetStore) -> None:
    """An execution that names a version can never come to read another one."""
    for _ in range(2):
        add(datasets)
    datasets.remove(datasets.versions("tickets"), lambda _, objects: iter(()))
    with pytest.raises(NoSuchDataset):
        datasets.versions("tickets")
    assert add(datasets).version == 3


def test_removal_deletes_copies_that_nothing_refers_to(datasets: DatasetStore) -> None:
    """Copies of versions that stay, and of the one that has the same file, are kept; tags go with their version."""
    for digest in ("aa", "bb", "aa"):
        add(datasets, digest=digest)
    objects = datasets.files.objects
    objects.joinpath("x").mkdir(parents=True)
    paths = {name: objects / "x" / name for name in ("aa", "bb", "left")}
    for path in paths.values():
        path.write_bytes(b"123")
    datasets.tag("tickets", 1, "gold")

    def needed(each: DatasetVersion, _: Path) -> Iterator[Path]:
        return (paths[file.digest] for file in each.content.files)

    doomed = [datasets.find("tickets", number) for number in (1, 2)]
    with datasets.files.workspace():  # somebody is adding, and may need a copy that no manifest names yet
        assert datasets.remove(doomed[:1], needed) is None
    assert all(path.exists() for path in paths.values())
    assert datasets.remove(doomed[1:], needed) == 6
    assert [path.exists() for path in paths.values()] == [True, False, False]
    assert (labels(datasets), datasets.find("tickets", 3).tags) == (["tickets@3"], ())


def test_workspaces_of_processes_that_are_gone_are_removed(datasets: DatasetStore, home: Path) -> None:
    """What a killed process was writing does not stay for ever, and what another one is writing is left alone."""
    (home / "datasets/.adding-old").mkdir(parents=True)
    with datasets.files.workspace() as one:
        assert not (home / "datasets/.adding-old").exists()
        with Manifests(home / "datasets").workspace() as other:
            assert one.is_dir() and other.is_dir() and one != other
            assert datasets.files.is_something_added()
    assert not datasets.files.is_something_added() and not one.exists()


def test_executions_refer_to_versions_as_long_as_their_folders_are_there(
    datasets: DatasetStore, home: Path, record: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """What an execution was run on can be found; paths that are called like a dataset do not count."""
    add(datasets)
    there = tmp_path / "there"
    there.mkdir()
    with Store.open(home) as store:
        store.save(record(0, dataset_name="tickets", dataset_version=1, folder=str(there)))
        store.save(record(1, dataset_name="tickets", dataset_version=1, folder=str(tmp_path / "gone")))
        store.save(record(2, dataset_name="tickets", folder=str(there)))
        store.save(record(3, dataset_name="other", dataset_version=1, folder=str(there)))
    assert datasets.used_by("tickets") == {1: [record(0)["execution_id"]]}


def test_the_latest_version_may_change_where_it_is_read(datasets: DatasetStore) -> None:
    """Content stays, the place may not; no new number is used up for that."""
    first = add(datasets)
    moved = datasets.add("tickets", lambda latest, _: replace(latest, path="/elsewhere") if latest is not None else first)
    assert (moved.version, datasets.find("tickets").path, labels(datasets)) == (1, "/elsewhere", ["tickets@1"])
