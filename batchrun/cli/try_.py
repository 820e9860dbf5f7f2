"""`batchrun try`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchrun.cli.options import job_options, overrides_of
from batchrun.cli.text import prints_aside


@click.command("try")
@job_options
@click.option("--item", "item_text", metavar="VALUE", help="The item: a JSON object of columns, or one value that is its input.")
@click.option("--id", "id_", metavar="ID", help="The item of the dataset with this id; without --item and --id it is the first one.")
@click.option("--node", metavar="ID", help="Run this node and what it needs, and no others.")
@click.option("--json", "as_json", is_flag=True, help="Print the item's row as JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    job: Path,
    *,
    settings: tuple[str, ...],
    filter_: str | None,
    limit: int | None,
    item_text: str | None,
    id_: str | None,
    node: str | None,
    as_json: bool,
) -> int:
    """Run one item through the workflow of JOB and show what each node is given and gives. Nothing is written down.

    Retries and deadlines hold as in a run. The exit code is 0 when the item completes, 3 when it fails.
    """
    import json

    from batchrun.cli.item_page import row_page
    from batchrun.execution.trial import try_item

    item = _parsed(item_text)
    if item is not None and id_ is not None:
        raise click.UsageError("give either --item or --id")
    with prints_aside(as_json=as_json):
        trial = try_item(job, overrides_of(settings, filter_, limit), item=item, id=id_, node=node)
    row = trial.row()
    click.echo(json.dumps(row, ensure_ascii=False) if as_json else row_page(row))
    return 0 if row["status"] in ("completed", "skipped") else 3


def _parsed(text: str | None) -> Any:
    import json

    if text is None:
        return None
    try:
        item = json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith(("{", "[", '"')):  # else it is a text
            raise click.BadParameter(f"is not JSON: {error}", param_hint="--item") from None
        return text
    if item is None:
        raise click.BadParameter("must be a value, got null", param_hint="--item")
    return item
