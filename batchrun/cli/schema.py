"""`batchrun schema`."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema of the job file, for editors.

    Save it beside the job and begin the job file with:

        # yaml-language-server: $schema=job.schema.json
    """
    from batchrun.config import job_schema

    click.echo(json.dumps(job_schema(), indent=2, ensure_ascii=False))
