"""What a workflow does, as hashes: whether work that was done before still stands, and what changed where it does not.

Only what has a meaning for the results counts. Labels, policies of patience and limits do not, nor does the order of
keys, nor an option that is spelled out with its default.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, NamedTuple

from batchrun.core.checks import NO_MEANING
from batchrun.core.errors import InvalidValue
from batchrun.core.job import NodeOptions, Workflow
from batchrun.workflows.encoding import encode
from batchrun.workflows.plan import NodeFingerprint, Plan
from batchrun.workflows.references import parse_reference
from batchrun.workflows.templates import TemplateEngine, TemplateMistake, exact_expression, is_template

# What a node calls, or answers with, may be given as text or as the object itself: what it stands for counts in its place.
_WITHOUT_MEANING = {
    *("id", "call", "label", "retry", "cache", "dedupe", "batch", "timeout_seconds", "idempotent"),
    *("max_response_bytes", "max_bytes", "max_output_bytes", "allow_paths", "allow_hosts"),
    *("placement", "workers", "parallelism", "poll", "on_lost_submit"),
    *("response_type", "record_prompt"),
}


class Difference(NamedTuple):
    """One thing in which a workflow is not what it was.

    Attributes:
        node_id: the node that changed; null for the output.
        what: part of a sentence, such as `node classify: its options changed`.
    """

    node_id: str | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """Makes the fingerprints of one workflow.

    Attributes:
        vars: the job's variables.
        input_field: the column that `{{ input }}` is.
    """

    vars: Mapping[str, Any]
    input_field: str | None

    def node(self, options: NodeOptions, code: str, *, is_given_input: bool) -> NodeFingerprint:
        """The fingerprint of a node; `is_given_input` where its type hands it the input without being told to."""
        meaningless = _WITHOUT_MEANING | {each.name for each in fields(options) if each.metadata.get(NO_MEANING)}
        said = {
            name: value
            for name, value in _said(options)
            if name not in meaningless and not (callable(value) or isinstance(value, Workflow))
        }
        around = self._around(said, reads_input=is_given_input)
        return NodeFingerprint(options=_hash([options.type, _written(said), around]), code=_hash([code]))

    def output(self, workflow: Workflow) -> str:
        """The fingerprint of a workflow's output and of its type."""
        return _hash([_written(workflow.output), _written(workflow.output_schema), self._around(workflow.output)])

    def _around(self, said: Any, *, reads_input: bool = False) -> str:
        """What the templates in `said` get from outside the dataset and the workflow, as text."""
        references = references_in(said)
        names = {str(reference[1]) for reference in references if reference[0] == "vars" and len(reference) > 1}
        values = self.vars if ("vars",) in references else {name: self.vars.get(name) for name in names}
        reads_input = reads_input or any(reference[0] == "input" for reference in references)
        return _written([values, self.input_field if reads_input else None])


def fingerprint_of(nodes: Mapping[str, NodeFingerprint], output: str) -> str:
    """The fingerprint of a whole workflow; the order of its nodes has no meaning."""
    return _hash([output, *(part for id in sorted(nodes) for part in (id, *nodes[id]))])


def described(plan: Plan) -> dict[str, Any]:
    """The fingerprints of a plan as plain values, to be stored and given to `differences` later."""
    nodes = {id: {"options": node.options, "code": node.code} for id, node in plan.node_fingerprints.items()}
    return {"nodes": nodes, "output": plan.output_fingerprint}


def differences(before: Mapping[str, Any], now: Plan) -> list[Difference]:
    """In what a plan differs from the one that `before` describes; empty where all work that was done still stands."""
    earlier: Mapping[str, Mapping[str, Any]] = before.get("nodes", {})
    found: list[Difference] = []
    for id, node in now.node_fingerprints.items():
        if id not in earlier:
            found.append(Difference(id, f"node {id} was added"))
            continue
        if earlier[id].get("options") != node.options:
            found.append(Difference(id, f"node {id}: its options changed"))
        if earlier[id].get("code") != node.code:
            found.append(Difference(id, f"node {id}: its function or what it calls changed"))
    found += [Difference(id, f"node {id} was removed") for id in earlier if id not in now.node_fingerprints]
    if before.get("output") != now.output_fingerprint:
        found.append(Difference(None, "the output changed"))
    return found


def edited_nodes(before: Mapping[str, Any], now: Plan) -> frozenset[str]:
    """The nodes of a plan that changed, or were added, since the one that `before` describes."""
    changed = {change.node_id for change in differences(before, now)}
    return frozenset(id for id in now.node_fingerprints if id in changed)


def references_in(value: Any) -> set[tuple[str | int, ...]]:
    """What the templates in a value refer to.

    Example:
        >>> sorted(references_in({"a": "{{ vars.model }}", "b": ["{{ nodes.clean.output.text }}"]}))
        [('nodes', 'clean', 'output', 'text'), ('vars', 'model')]
    """
    engine, found = TemplateEngine(), set[tuple[str | int, ...]]()
    for text in _texts(value):
        expression = exact_expression(text)
        reference = parse_reference(expression) if expression else None
        if reference is not None:
            found.add(reference)
            continue
        try:
            found |= engine.text(text).names
        except TemplateMistake:  # a text that only looks like one
            continue
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from [value] if is_template(value) else []
    elif isinstance(value, Mapping):
        yield from (text for inner in value.values() for text in _texts(inner))
    elif isinstance(value, list | tuple):
        yield from (text for inner in value for text in _texts(inner))
    elif is_dataclass(value):
        yield from (text for _, inner in _said(value) for text in _texts(inner))


def _said(options: Any) -> Iterator[tuple[str, Any]]:
    """The fields of options that are not as they are anyway."""
    for each in fields(options):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        value = getattr(options, each.name)
        if default is MISSING or value != default:
            yield each.name, value


def _written(value: Any) -> str:
    """A value as text that is the same for the same value, whatever the order of its keys."""
    if is_dataclass(value) and not isinstance(value, type):
        value = dict(_said(value))
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{_written(key)}:{_written(inner)}' for key, inner in value.items()))}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, set | frozenset):
        return f"[{','.join(sorted(map(_written, value)))}]"
    try:
        return encode(value).decode()
    except InvalidValue:
        return type(value).__qualname__


def _hash(parts: Iterable[str]) -> str:
    return hashlib.blake2b(encode(list(parts)), digest_size=16).hexdigest()
