"""Waiting for a person: what a call raises whose item cannot go on before somebody has decided, and the decision."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from batchrun.core.errors import NodeError
from batchrun.workflows.encoding import encode


class NeedsDecision(BaseException):
    """Raised by a call: its item waits for a person. No `Exception`, so that no code of users takes it for a failure.

    Attributes:
        shown: what the person is to decide about.
    """

    def __init__(self, shown: Any) -> None:
        super().__init__("waits for a person")
        self.shown = shown


class DecidedElsewhere(NeedsDecision):
    """The same, for a person who decides at a service: the call is made again by a resume, and asks there what has come of it."""


class StoppedAtRest(BaseException):
    """Raised in a call that only waits while the execution stops: a resume goes on with its item. No `Exception`, as above."""


class Rejected(NodeError):
    """A person has said no. No retry rule asks again: `batchrun retry` does."""

    retryable = False


class Decision(NamedTuple):
    """What a person has decided about an item. It is kept as the last checkpoint of the node that waits.

    Attributes:
        is_approved: whether the item goes on.
        has_output: whether the person has given the output; else it is what was shown.
        output: that output.
        reason: why it was rejected, in the person's words.
        by: who decided.
        about: what it was decided about: the digest of what was shown.
    """

    is_approved: bool
    has_output: bool = False
    output: Any = None
    reason: str | None = None
    by: str | None = None
    about: str = ""


def digest(shown: bytes) -> str:
    """What stands for something that was shown, given as JSON text."""
    return hashlib.blake2b(shown, digest_size=16).hexdigest()


def decision_of(fields: Any) -> Decision | None:
    """A decision from its fields as plain values; null when they are those of none."""
    match fields:
        case {
            "is_approved": bool(),
            "has_output": bool(),
            "output": _,
            "reason": str() | None,
            "by": str() | None,
            "about": str(),
        } if len(fields) == len(Decision._fields):
            return Decision(**fields)
    return None


def settle(shown: Any, checkpoint: Any) -> Any:
    """The output of a node that waits for a person, once there is a decision.

    Args:
        shown: what is to be decided about.
        checkpoint: the fields of the decision; null: there is none yet.

    Raises:
        NeedsDecision: nobody has decided, or it was about something else: what is shown has changed since.
        Rejected: a person has said no.

    Example:
        >>> settle("a draft", Decision(is_approved=True, about=digest(b'"a draft"'))._asdict())
        'a draft'
    """
    decision = decision_of(checkpoint)
    if decision is None or decision.about != digest(encode(shown)):
        raise NeedsDecision(shown)
    if not decision.is_approved:
        by = f" by {decision.by}" if decision.by else ""
        raise Rejected(f"rejected{by}" + (f": {decision.reason}" if decision.reason else ""))
    return decision.output if decision.has_output else shown
