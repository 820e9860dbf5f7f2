"""What a function that asks for it knows about its call, and can leave behind."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Protocol


class Context(Protocol):
    """The call that a function is in. A function with a parameter of this type gets one; it is not given under `inputs`.

    Example:
        >>> async def submit(text: str, call: Context) -> str:
        ...     run_id = call.last_checkpoint
        ...     if run_id is None:
        ...         run_id = f"run-of-{call.call_key}"  # start the remote work here
        ...         await call.checkpoint(run_id)  # whatever happens from here on, it is not started twice
        ...     call.add_usage(input_tokens=len(text), cost=0.001)
        ...     return run_id
    """

    @property
    def execution_id(self) -> str:
        """The execution."""

    @property
    def item_index(self) -> int:
        """Position of the item's row in the dataset version."""

    @property
    def attempt(self) -> int:
        """Number of this call of the node for this item, throttled ones aside: 1 for the first, in whichever process that was."""

    @property
    def call_key(self) -> str:
        """Identifies what this call does: the same in all its attempts and after a crash, another one after `batchrun retry`."""

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody has cancelled the execution: what this call has begun elsewhere is to be ended. False when it only stops."""

    @property
    def last_checkpoint(self) -> Any:
        """The last checkpoint of this node for this item, left by this call or one that did not end well; null: there is none."""

    def checkpoint(self, value: Any) -> Awaitable[None]:
        """Leave a value that a later attempt finds as `last_checkpoint`, also after a crash. It goes once the node has ended.

        In an async function, `await` it: it returns once the value is safe on the disk. In a plain function it only
        returns then. When an execution keeps no journal, the value lives as long as the process.

        Raises:
            InvalidValue: the value is not what JSON gives back: dicts with text keys, lists, text, numbers, booleans, null.
            NodeError: the call is over: it ran past its deadline, or has returned.
            ExecutionError: the value cannot be written.
        """

    def record(self, *, prompt: str | None = None, external_id: str | None = None) -> None:
        """Say what is to be seen in the node's record, the last one said counts; it is seen even if the call fails later.

        Args:
            prompt: what was sent to a model.
            external_id: what the service that does the work calls it.
        """

    def add_usage(self, *, input_tokens: int = 0, output_tokens: int = 0, cost: float = 0.0) -> None:
        """Report what the call has used, as often as there is something new; it counts even if the call fails later.

        Args:
            input_tokens: tokens sent.
            output_tokens: tokens received.
            cost: in the unit of `run.budget.max_cost`.

        Raises:
            InvalidValue: a number is negative or not finite.
        """
