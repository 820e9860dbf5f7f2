"""Runs workflows of the service at argv[1] with noxus-sdk and prints what its client saw, as JSON."""

from __future__ import annotations

import asyncio
import io
import json
import sys

from noxus_sdk.client import Client
from noxus_sdk.resources.runs import RunFailureError


async def complete_alone(base_url: str) -> str:
    client = Client(api_key="key", base_url=base_url)
    workflow = await client.workflows.aget("w")
    return (await (await workflow.arun(body={"n": "async"})).a_wait(interval=0)).status


def main(base_url: str) -> dict[str, object]:
    client = Client(api_key="key", base_url=base_url)
    workflow = client.workflows.get("w")
    completed = workflow.run(body={"text": "hello"}).wait(interval=0)
    polled = workflow.run(body={"script": {"events": "absent"}}).wait(interval=0)
    try:
        failed = workflow.run(body={"text": "script:failed"}).wait(interval=0)
    except RunFailureError as error:
        failed = str(error)
    waiting = workflow.run(body={"script": {"ends": "waiting", "events": "absent"}}).wait(interval=0)
    stopped = workflow.run(body={"text": "script:never"}).stop()
    file = client.files.save(io.BytesIO(b"content"))
    return {
        "completed": [completed.status, completed.output],
        "polled": polled.status,
        "failed": failed,
        "waiting": waiting.status,
        "stopped": stopped.status,
        "alone": asyncio.run(complete_alone(base_url)),
        "held": client.runs.run_sync("w", {"text": "held"}, output_only=True),
        "listed": len(client.runs.list("w")),
        "file": [file.uri, client.files.get(file.id).decode()],
    }


json.dump(main(sys.argv[1]), sys.stdout)
