"""What an execution with secrets keeps, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrun.core.errors import ErrorRecord, InvalidValue
from batchrun.core.events import Retrying, SentBack
from batchrun.core.items import Item, ItemResult, KeptNode, NodeRecord
from batchrun.core.secrets import Mask
from batchrun.execution.masking import MaskedCache, MaskedJournal, MaskedResults, masked_events
from batchrun.results import ResultLayout, ResultWriter
from batchrun.store import Cache

MASK = Mask(["s3cr3t"])


class Columns(NamedTuple):
    """A window of source rows."""

    columns: pa.RecordBatch


class Taken:
    """A journal in memory."""

    def __init__(self) -> None:
        self.kept: list[KeptNode] = []
        self.checkpoints: list[KeptNode] = []

    def keep(self, nodes: Sequence[KeptNode]) -> None:
        self.kept += nodes

    async def checkpoint(self, node: KeptNode) -> None:
        self.checkpoints.append(node)


def record(status: str = "completed") -> NodeRecord:
    error = ErrorRecord("E", "with s3cr3t", None, retryable=True, http_status=None, traceback=None)
    return (0, status, 1, 0, 0.0, b'{"key":"s3cr3t"}', None, error, None, None, False)  # type: ignore[return-value]


def kept(output: bytes | None, status: str = "completed", node_id: str = "a") -> KeptNode:
    return KeptNode(0, 0, 1, node_id, record=record(status), output=output)


def test_an_output_with_a_secret_is_not_kept_and_said_once() -> None:
    """A masked output would be handed to the next node as if it were the real one."""
    journal, notes = Taken(), list[str]()
    masked = MaskedJournal(journal, MASK, notes.append)
    masked.keep([kept(b'"a s3cr3t b"'), kept(b'"plain"'), kept(b'"s3cr3t"', node_id="b/x:0/c")])
    masked.keep([kept(b'"s3cr3t"')])
    assert [node.output for node in journal.kept] == [b'"plain"']
    assert journal.kept[0].record == MASK.node(record())
    assert b"s3cr3t" not in repr(journal.kept).encode()
    assert [note.split(":")[0] for note in notes] == ["node a", "node b.c"]


def test_no_secret_is_in_rows_that_lanes_make(tmp_path: Path) -> None:
    """Rows are made before they are handed over: what would mask them afterwards would find nothing to mask."""
    schema = pa.schema([("source_item_id", pa.int64()), ("item_index", pa.int64())])
    window = Columns(pa.record_batch([pa.array(range(300)), pa.array(range(300))], schema=schema))
    writer = ResultWriter(tmp_path, ResultLayout(window_schema=schema, nodes=(("a", "python"),)))
    sink = MaskedResults(writer, MASK)
    items = [Item(n, n, n, {}, window, n) for n in range(300)]
    made = sink.pack([ItemResult(item, "completed", b'"is s3cr3t"', None, 1, 0, 1.0, [record()]) for item in items])
    assert made is not None
    sink.put_rows(made)
    writer.finish({}, 300)
    row = pq.read_table(tmp_path / "results.parquet").to_pylist()[-1]
    assert row["output"] == '"is ***"'
    assert "s3cr3t" not in repr(row)
    assert row["node_executions"][0]["input"] == '{"key":"***"}'


def test_what_waits_for_a_person_is_kept_masked() -> None:
    """It is shown, and nobody could decide about an item that is not there."""
    journal = Taken()
    MaskedJournal(journal, MASK, print).keep([kept(b'"s3cr3t"', "waiting")])
    assert [node.output for node in journal.kept] == [b'"***"']


async def test_a_checkpoint_with_a_secret_is_refused() -> None:
    """A call goes on from its checkpoint: it must be whole or not at all."""
    journal = Taken()
    masked = MaskedJournal(journal, MASK, print)
    await masked.checkpoint(kept(None)._replace(checkpoint=b'"x"'))
    with pytest.raises(InvalidValue, match="must not hold a secret"):
        await masked.checkpoint(kept(None)._replace(checkpoint=b'{"k":"s3cr3t"}'))
    assert len(journal.checkpoints) == 1


def test_the_cache_takes_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It outlives the execution, and others read it."""
    monkeypatch.setenv("BATCHRUN_HOME", str(tmp_path))
    cache = Cache("job", print)
    masked = MaskedCache(cache, MASK)
    masked.put(b"1", b'"s3cr3t"', "a", "f")
    masked.put(b"2", b'"plain"', "a", "f")
    cache.close()
    content = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"plain" in content
    assert b"s3cr3t" not in content


def test_events_of_failed_calls_are_masked() -> None:
    """They go to logs and collectors as soon as they happen; without secrets or listeners nothing is in their way."""
    told: list[SentBack] = []
    tell = masked_events(told.append, MASK)
    assert tell is not None
    common = {"execution_id": "e", "at": datetime.now(UTC), "item_index": 0, "source_item_id": 0, "node_id": "a"}
    tell(Retrying(**common, failed_attempts=1, wait_seconds=0, error_type="E", message="with s3cr3t"))  # type: ignore[arg-type]
    assert told[0].message == "with ***"
    assert masked_events(None, MASK) is None
    assert masked_events(print, Mask()) is print
