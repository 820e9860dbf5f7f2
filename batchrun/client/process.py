"""The program that runs a detached execution: `python -m batchrun.client.process FOLDER OPTIONS`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from batchrun.client.running import resume, retry
from batchrun.core.errors import BatchrunError
from batchrun.execution import Record


def main(arguments: list[str]) -> int:
    """Go on with an execution. Returns the exit code of the process."""
    folder, options = Path(arguments[0]), json.loads(arguments[1])
    was_pending = Record.read(folder).status == "pending"
    try:
        execution = (retry if "from_start" in options else resume)(folder, **options)
    except BatchrunError as error:
        sys.stderr.write(f"{error}\n")
        if was_pending:
            Record.read(folder).enter("rejected", error=str(error))
        return 2
    if execution is not None and execution.has_stuck_threads:
        os._exit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
