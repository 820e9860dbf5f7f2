"""Which event loop the items of an execution run on."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from batchrun.workflows.plan import Plan


def loop_options(plan: Plan) -> dict[str, Any]:
    """What `anyio.run` is told: uvloop, where it is installed and anything in the workflow waits.

    `BATCHRUN_UVLOOP=0` in the environment keeps to that of Python.
    """
    is_wanted = not plan.is_in_chunks and os.environ.get("BATCHRUN_UVLOOP") != "0"
    return {"use_uvloop": is_wanted and find_spec("uvloop") is not None}
