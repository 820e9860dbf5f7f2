"""`batchrun show`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.folders import execution_folder, of_execution

if TYPE_CHECKING:
    from batchrun.cli.known import Known
    from batchrun.client import Execution
    from batchrun.workflows.drawing import Form


@click.command("show")
@of_execution
@click.option("--nodes", "shows_nodes", is_flag=True, help="Show what each node did: calls, failures, times.")
@click.option("--item", "item_id", metavar="ID", help="Show one item: its row, and each node that ran for it.")
@click.option("--waiting", "shows_waiting", is_flag=True, help="Show the items that wait for a person, and what each is to decide about.")
@click.option("--graph", "form", type=click.Choice(["mermaid", "svg"]), help="Draw its workflow, with counts: --graph svg > workflow.svg.")
@click.option("--json", "as_json", is_flag=True, help="Print the execution record with its progress, or the row of the item, as JSON.")
def command(  # noqa: PLR0913 - one parameter per option
    execution: str, *, runs: Path, shows_nodes: bool, item_id: str | None, shows_waiting: bool, form: Form | None, as_json: bool
) -> None:
    """Show EXECUTION, how far it is or how it ended: an id, the beginning of one, a folder, or "latest" (default).

    While it runs, and after it was killed, its journal tells what was done.
    """
    from batchrun.client import Execution

    if shows_nodes and item_id is not None:
        raise click.UsageError("--nodes is about all items; leave it out to see the nodes of the one that --item names")
    shown = Execution(execution_folder(execution, runs))
    if shows_waiting:
        from batchrun.cli.deciding import waiting_page

        click.echo(waiting_page(shown, as_json=as_json))
        return
    if item_id is not None:
        click.echo(_item(shown, item_id, as_json=as_json))
        return
    from batchrun.cli.known import known
    from batchrun.cli.page import execution_page, nodes_page

    state = known(shown)
    if form is not None:
        from batchrun.cli.drawn import drawing

        click.echo(drawing(shown, state, form), nl=False)
    elif as_json:
        click.echo(json.dumps(_plain(shown, state, shows_nodes=shows_nodes), indent=2, ensure_ascii=False))
    else:
        click.echo(nodes_page(shown, state) if shows_nodes else execution_page(shown, state))


def _plain(execution: Execution, known: Known, *, shows_nodes: bool) -> dict[str, Any]:
    from batchrun.cli.known import plain

    content = {**execution.record, "status": execution.status, "error": execution.error, "progress": plain(known.progress)}
    if shows_nodes:
        nodes = known.totals.nodes if known.totals is not None else ()
        open_nodes = known.progress.open_nodes
        content["nodes"] = [{**asdict(node), "open_items": open_nodes.get(node.node_id, 0)} for node in nodes]
    return content


def _item(execution: Execution, item_id: str, *, as_json: bool) -> str:
    from batchrun.cli.item_page import dataset_items, item_page
    from batchrun.core.errors import ExecutionError
    from batchrun.results import RESULT_FILE, find_item
    from batchrun.results.journal import epochs
    from batchrun.workflows.encoding import encode

    folder, has_journal = execution.folder, bool(epochs(execution.folder))
    if not has_journal and execution.status != "pending" and not (folder / RESULT_FILE).exists():
        raise ExecutionError(f"{folder} has neither a journal nor a result: with run.durable: false, items are written down at the end")
    # Totals are those of the result that is there: there are none while the last run has not come to one.
    is_over = not execution.is_in_progress and execution.status != "interrupted" and execution.totals is not None
    dataset = dataset_items(folder, item_id)
    found = find_item(folder, item_id, from_journal=has_journal and not is_over, dataset=dataset)
    return encode(found.row).decode() if as_json else item_page(execution, found)
