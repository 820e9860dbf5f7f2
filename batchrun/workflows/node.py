"""What a node type is: an options dataclass that can turn itself into a call.

A new node type is one file: a frozen dataclass derived from `NodeOptions` with its own keys and a `bind` method.
Built-in types live in `batchrun.nodes`; others are found through the `batchrun.nodes` entry point group.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from batchrun.core.job import Resource, Workflow
from batchrun.core.policies import Budget, Retry
from batchrun.core.prices import Price
from batchrun.workflows.scope import Scope

if TYPE_CHECKING:
    from batchrun.workflows.plan import Plan

Render: TypeAlias = Callable[[Scope], Any]
"""A compiled template or reference: the value for one item. Raises `NodeError`s, and what methods of the values raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCall:
    """A node, ready to be called once per item.

    Attributes:
        call: does the work for the item in `scope` and returns the node's output; reads `scope.inputs`. Raises to fail.
        waits: True when `call` is a coroutine function, run on the event loop and cancelled at its deadline.
            False when it is a plain function, run in a lane thread and abandoned at its deadline.
        returns: the type the output is declared to have (a Python annotation), or None.
        key: gives a JSON-like value that, with the options and `identity`, decides the output; null: the node can be neither cached nor
            deduplicated.
        call_many: does the work of `call` for several items at once, each in its scope: one output per item, in their order; null:
            the node cannot be batched. It waits if `call` does.
        queues: `call` may wait for its turn and calls `scope.sending` when it has it; the attempt's deadline starts there.
        sends_call_key: the call key is computed for each call (`scope.call_key`) and recorded.
        wants_context: a `Context` is made for each call (`scope.context`).
        restore: makes an output from what its JSON text says; may raise. An output is only kept between runs if it comes back equal.
        identity: what besides its options makes this node what it is, such as the source of its function.
        keeps_timeout: `call` keeps `timeout_seconds` itself.
        asks_person: `call` waits for a person (`batchrun.workflows.decisions`): it counts against no budget, and needs a journal.
        has_parts: `call` runs other plans: a `Parts` is made for each call (`scope.parts`). It waits.
        turn: entered on the event loop around each call, which begins when that has been entered: waits for its turn, and calls
            `scope.sending` when it has it, as with `queues`.
        lifespan: entered on the event loop before the first item, left after the last: connections live in here.
    """

    call: Callable[[Scope], Any] | Callable[[Scope], Awaitable[Any]]
    waits: bool = False
    returns: Any = None
    key: Callable[[Scope], Any] | None = None
    call_many: Callable[[Sequence[Scope]], Any] | None = None
    queues: bool = False
    sends_call_key: bool = False
    wants_context: bool = False
    keeps_timeout: bool = False
    asks_person: bool = False
    has_parts: bool = False
    restore: Callable[[Any], Any] = lambda value: value
    identity: str = ""
    turn: Callable[[Scope], AbstractAsyncContextManager[None]] | None = None
    lifespan: Callable[[], AbstractAsyncContextManager[None]] | None = None


class NodeCompiler(Protocol):
    """What a node may ask for while it is bound. Paths are relative to the node's mapping in the job file."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """The keys of `inputs`."""

    @property
    def run_retry(self) -> Retry:
        """`run.retry` of the job, which holds where a node has no rules of its own."""

    @property
    def folder(self) -> Path:
        """The folder of the job, from which relative paths start."""

    @property
    def prices(self) -> Mapping[str, Price]:
        """What tokens of models cost, by the name of the model."""

    @property
    def budget(self) -> Budget:
        """What the execution may spend."""

    def template(self, value: Any, *path: str | int) -> Render:
        """Compile a value in which every string may be a template.

        A string that is exactly one `{{ expression }}` keeps its type; lists and mappings are compiled through.
        `{{ inputs.name }}`, `{{ item.column }}`, `{{ input }}`, `{{ nodes.id.output }}` and `{{ vars.name }}` are known.
        Mistakes are reported as problems at `path`.
        """

    def default_inputs(self, inputs: dict[str, Any], at: tuple[str, ...] = ("inputs",)) -> None:
        """What `inputs` is when the job file does not say; mistakes in it are reported at the path of each below `at`."""

    def constant(self, value: str, *path: str | int) -> str:
        """Render a template that may only refer to `vars`, once, before the first item."""

    def constants(self, value: Any, *path: str | int) -> Any:
        """The same for a value in which every string may be such a template; one that is exactly one expression keeps its type."""

    def credentials(self, value: Any, *path: str | int) -> Any:
        """Options with every template in them rendered once, before the first item; they may only refer to `vars` and `secrets`."""

    def secrets(self, names: Sequence[str], *path: str | int) -> dict[str, str]:
        """Secrets of the job, by name. Unknown ones are reported."""

    def branch(self, id: str, *path: str | int) -> None:
        """Name a node that only runs for items for which the output of this one is its id. Unknown ids are reported."""

    def part(self, workflow: Workflow, columns: Sequence[str], input_field: str | None = None) -> Plan:
        """Compile another workflow that calls of this node run as parts; also while items run.

        Args:
            workflow: what is run.
            columns: the names of the values that it finds in its item.
            input_field: the one that `{{ input }}` is; null: all of them.

        Raises:
            JobError: with every mistake found.
        """

    def problem(self, message: str, *path: str | int) -> None:
        """Report a mistake in the options. Binding goes on, so that all mistakes are reported at once."""

    def resource(self, name: str, *path: str | int) -> Resource | None:
        """The named resource of the job; null, and a problem reported, when there is none."""


@runtime_checkable
class NodeType(Protocol):
    """Options that can turn themselves into a call."""

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Make the call. Null when problems were reported."""
