"""A service that misbehaves as told: for trying jobs and nodes against the faults of real services.

In tests, in a thread of its own, on 127.0.0.1 only:

    with FaultyService(Faults(statuses={429: 0.6}, seed=7)) as service:    # also: async with
        ...                                     # call service.url; a preset's base URL is service.url_of("noxus")
        service.set_faults(Faults())            # from now on: no faults; the clock of `outages` starts anew
        service.seen().most_at_once             # what came: .count, .by_item, .by_status, .most_at_once, .calls, .most_within(seconds)
        service.seen("/v1/chat/*").by_item      # the same of the paths that match
        service.runs("noxus")                   # runs of the remote systems: .item, .submits, .polls, .streams, .cancels, .state, .input
        service.set_script(Script(ends="failed"))

From a shell: `python -m batchrun.testing.faulty_service --port 8090 --status 429=0.6`; it prints its address as one line.

Which item a request belongs to: the header `Idempotency-Key`, else the first field or query parameter named `item`, at any
depth, else path and query. Runs of remote systems without either are told apart by their input.

Routes:
    /v1/chat/completions, /v1/embeddings, /v1/models: OpenAI-compatible (see `Chat` for answers that break their schema).
    /noxus, /seeme, /eigenpal, /eigenpal-0.5, /flux: the remote systems, each below a base URL of its own (`url_of`).
    /_seen, /_runs, /_faults, /_script: GET tells, PUT sets (`_faults`, `_script`), DELETE forgets (`_seen`); never faulty.
    anything else: answers with what was asked, as JSON (method, path, query, headers, json, text, item, call).

How a run goes is told by the `Script` of the service, or for one run by its input: a field `script` (a word of `SCRIPTS` or
the fields of a `Script`), or the text `script:WORD` anywhere in it.
"""

from __future__ import annotations

from batchrun.testing.faulty_service.book import Call, Seen
from batchrun.testing.faulty_service.chat import Chat
from batchrun.testing.faulty_service.faults import Faults
from batchrun.testing.faulty_service.runs import SCRIPTS, Run, Script
from batchrun.testing.faulty_service.service import SYSTEMS, FaultyService

__all__ = ["SCRIPTS", "SYSTEMS", "Call", "Chat", "Faults", "FaultyService", "Run", "Script", "Seen"]
