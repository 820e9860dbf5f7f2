"""Runs automations of the service at argv[1] with eigenpal 0.20 and prints what its client saw, as JSON."""

from __future__ import annotations

import json
import sys

from eigenpal import EigenpalClient


def main(base_url: str) -> dict[str, object]:
    with EigenpalClient(api_key="key", base_url=base_url) as client:
        completed = client.run_and_wait("workflows.w", {"text": "hello"}, poll_interval_seconds=0)
        failed = client.run_and_wait("workflows.w@v2", {"script": "failed"}, poll_interval_seconds=0)
        rejected = client.run_and_wait("workflows.w", {"script": "rejected"}, poll_interval_seconds=0)
        cancelled = client.runs.cancel(client.run("workflows.w", {"script": "never"})["id"])
        file = {"content": b"content", "filename": "input.txt", "mime_type": "text/plain"}
        with_file = client.run_and_wait("workflows.w", {"document": file, "n": 1}, poll_interval_seconds=0)
        return {
            "completed": [completed["execution"]["status"], completed["output"]],
            "failed": [failed["execution"]["status"], failed["error"]],
            "rejected": rejected["execution"]["status"],
            "cancelled": cancelled["cancellation"]["state"],
            "held": client.run("workflows.w", {"n": 2}, wait_for_completion=5)["execution"]["status"],
            "file": with_file["output"],
            "uploaded": client.files.upload(file)["id"],
            "rerun": client.rerun(completed["id"])["finished"],
            "listed": len(client.runs.list(status="completed,failed")["runs"]),
        }


json.dump(main(sys.argv[1]), sys.stdout)
