"""A job whose items are runs of a remote workflow."""

from __future__ import annotations

from typing import Any

from tests.e2e.conftest import Project

ITEMS = 8
JOB = """\
name: remote
dataset: {{path: data.parquet, id: id}}
resources: {{up: {{base_url: "{url}"{limits}}}}}
workflow:
  nodes:
    - id: go
      type: remote
      preset: noxus
      resource: up
      workflow: wf_1
      payload: {{item: "{{{{ item.id }}}}"}}
      poll: {{initial_seconds: 0.02, max_seconds: 0.05}}
      {options}
run: {{parallelism: 8, grace_seconds: 0.3, retry: {{backoff: {{initial_seconds: 0.05}}}}{run}}}
output: {{path: runs}}
"""


def work(project: Project, url: str, options: str = "on_failure: stop", *, limits: str = "", run: str = "", items: int = ITEMS) -> None:
    project.write("job.yaml", JOB.format(url=url, options=options, limits=limits, run=run))
    project.table("data.parquet", {"id": [f"item {at}" for at in range(items)]})


def rows(project: Project) -> dict[str, dict[str, Any]]:
    return {row["source_item_id"]: row for row in project.result.to_pylist()}


def errors(project: Project) -> dict[str, str | None]:
    return {id: row["error"] and row["error"]["type"] for id, row in rows(project).items()}
