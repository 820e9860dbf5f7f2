"""`python -m batchrun.testing.faulty_service`: a service that misbehaves as told, until it is interrupted."""

from __future__ import annotations

import json
import signal
import threading
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from batchrun.testing.faulty_service.chat import Chat
from batchrun.testing.faulty_service.faults import Faults
from batchrun.testing.faulty_service.runs import SCRIPTS
from batchrun.testing.faulty_service.service import FaultyService


def _pairs(_context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[tuple[float, float]]:
    between = "=" if option.name == "statuses" else "-"
    try:
        return [(float(first), float(second)) for first, _, second in (value.partition(between) for value in values)]
    except ValueError:
        raise click.BadParameter(f"must be two numbers with {between} between them, got {', '.join(values)}") from None


@click.command(context_settings={"show_default": True})
@click.option("--port", default=8090, help="Where on 127.0.0.1; 0: any free one.")
@click.option("--faults", "file", type=click.File(), help="A JSON file with faults; options are laid over it.")
@click.option("--latency-seconds", type=float, help="Every answer takes at least this long.")
@click.option("--latency-spread-seconds", type=float, help="And up to this much longer, by chance.")
@click.option(
    "--status", "statuses", multiple=True, callback=_pairs, metavar="STATUS=SHARE", help="Share of answers with a status: 429=0.6."
)
@click.option("--retry-after-seconds", type=float, help="Send Retry-After with 429 and 503.")
@click.option("--retry-after-date", is_flag=True, default=None, help="Send it as a date.")
@click.option("--requests-per-minute", type=float, help="Answer more with 429.")
@click.option("--tokens-per-minute", type=float, help="The same for tokens of chat and embeddings.")
@click.option("--window-seconds", type=float, help="Length of a window that both are counted in.")
@click.option("--capacity", type=int, help="Answer more requests at once with 429.")
@click.option("--resets", type=float, help="Share of connections broken off.")
@click.option("--hangs", type=float, help="Share of requests never answered.")
@click.option("--drips", type=float, help="Share of answers sent in small pieces.")
@click.option("--drip-seconds", type=float, help="Pause after each piece.")
@click.option("--malformed", type=float, help="Share of answers whose JSON is cut.")
@click.option("--quota", type=float, help="Share of answers that say insufficient_quota.")
@click.option("--quota-after", type=int, help="Say insufficient_quota after so many requests.")
@click.option("--outage", "outages", multiple=True, callback=_pairs, metavar="FROM-TO", help="Nothing works between two seconds: 10-40.")
@click.option("--outage-answer", type=str, help="What an outage looks like: a status, reset or hang.")
@click.option("--spare-after", type=int, help="Only the first so many requests of each item meet faults.")
@click.option("--paths", type=str, help="Only paths that match meet faults.")
@click.option("--seed", type=int, help="Decides which requests meet faults of a share.")
@click.option("--script", type=click.Choice(sorted(SCRIPTS)), default="completed", help="How runs of remote systems go.")
@click.option("--broken-answers", default=0, help="So many answers to a question break their schema.")
@click.option("--api-key", help="Asked for from everybody.")
def main(port: int, file: Any, script: str, broken_answers: int, api_key: str | None, **options: Any) -> None:
    """Serve on 127.0.0.1 and misbehave as told; prints the address as one line."""
    given = {name: value for name, value in options.items() if value not in (None, [])}
    given |= {"statuses": dict(given["statuses"])} if "statuses" in given else {}
    try:
        faults = TypeAdapter(Faults).validate_python({**(json.load(file) if file else {}), **given})
    except ValidationError as error:
        raise click.ClickException(str(error)) from None
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with FaultyService(faults, script=SCRIPTS[script], chat=Chat(broken_answers=broken_answers), api_key=api_key, port=port) as service:
        click.echo(service.url)
        stopped.wait()


if __name__ == "__main__":
    main()
