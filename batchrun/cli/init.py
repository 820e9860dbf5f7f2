"""`batchrun init`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), default=Path("job.yaml"))
def command(path: Path) -> None:
    """Write a commented starter job to PATH (default: job.yaml). An existing file is never overwritten."""
    from batchrun.config import starter_job

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(starter_job())
    except FileExistsError:
        raise click.ClickException(f"{path} is there already; name another file") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    click.echo(f"wrote {path}; next: name your data and your functions in it, then: batchrun validate {path}", err=True)
