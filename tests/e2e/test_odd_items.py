"""Whatever a function does with one item ends that item alone: each of these has ended runs of other programs."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import Project

ODD = {
    "exit": "SystemExit",
    "base": "OddEnd",
    "deep": "RecursionError",
    "strange": "InvalidValue",
    "circle": "InvalidValue",
    "huge": "OutputTooLarge",
    "never": "Timeout",
}
STEPS = '''\
import asyncio
import sys
import time


class OddEnd(BaseException):
    """Not even an Exception."""


def depth(n):
    return depth(n + 1) + 1


def odd(text):
    print(f"looking at {text}")
    if text == "exit":
        sys.exit(3)
    if text == "base":
        raise OddEnd("no exception")
    if text == "deep":
        depth(0)
    if text == "strange":
        return {"thing": object()}
    if text == "circle":
        circle = []
        circle.append(circle)
        return circle
    if text == "huge":
        return "x" * 2_000_000
    return text


def plain(text):
    while text == "never":
        time.sleep(0.01)
    return odd(text)


async def waiting(text):
    while text == "never":
        await asyncio.sleep(3600)
    return odd(text)
'''
JOB = """\
dataset: {path: data.csv, id: text}
workflow:
  nodes:
    - {id: odd, type: python, call: "steps:plain", inputs: {text: "{{ item.text }}"}, timeout_seconds: 5, max_output_bytes: 1000000}
    - {id: after, type: template, template: "{{ nodes.odd.output }}!"}
run: {retry: {max_attempts: 1}, parallelism: 4}
output: {path: runs}
"""


@pytest.mark.parametrize("function", ["plain", "waiting"])
def test_every_odd_item_fails_alone_and_says_why(project: Project, function: str) -> None:
    """In threads and on the event loop: its own row has the error, all other items are completed, and the program ends."""
    texts = [text for odd in ODD for text in (odd, f"good after {odd}")]
    project.write("data.csv", "text\n" + "\n".join(texts) + "\n")
    project.write("steps.py", STEPS)
    project.write("job.yaml", JOB.replace("plain", function))
    ended = project.batchrun("run", "job.yaml", "--json")
    assert ended.code == 3, ended.err
    rows = project.result.to_pylist()
    assert [row["source_item_id"] for row in rows] == texts
    errors = {row["source_item_id"]: row["error"]["type"] for row in rows if row["status"] == "failed"}
    assert errors == ODD
    assert all(row["error"]["node_id"] == "odd" for row in rows if row["status"] == "failed")
    assert {row["source_item_id"]: row["output"] for row in rows if row["status"] == "completed"} == {
        text: f"{text}!" for text in texts if text.startswith("good")
    }
    huge = next(row for row in rows if row["source_item_id"] == "huge")
    assert huge["error"]["message"] == (
        "the output has 2,000,002 bytes as JSON, max_output_bytes is 1,000,000; "
        "return less, write large data to a file and return its path, or raise max_output_bytes"
    )
    assert huge["error"]["retryable"] is False
    assert huge["node_executions"][0]["output"] is None
    # What functions print is for people: the record on standard output can be read by a program.
    assert json.loads(ended.out)["status"] == "completed"
    assert "looking at good after exit" in ended.err
