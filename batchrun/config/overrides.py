"""What is set from outside the job file: values, `--set run.parallelism=64`, and outputs, `--override nodes.clean.output=x`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from batchrun.config.source import Source, ValuePath, plain, shown
from batchrun.config.yaml_source import read_yaml
from batchrun.core.errors import JobError, Problem, dotted, known_values
from batchrun.workflows.fingerprint import references_in
from batchrun.workflows.templates import is_template

_INPUTS = "dataset.inputs."  # what follows may be a label, whatever is in it
_PATH = re.compile(r"[^.\[\]=]+(\[\d+\])*(\.[^.\[\]=]+(\[\d+\])*)*")
_OUTPUT = re.compile(r"nodes\.([^.\[\]=]+)\.output")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


class _Refused(Exception):
    """An override that cannot be applied."""


def apply_overrides(source: Source, overrides: Mapping[str, Any] | Sequence[str]) -> set[ValuePath]:
    """Set each value in `source`, whose problems grow by what cannot be set. Returns the paths that were set to null."""
    nulls: set[ValuePath] = set()
    for path, value, label in _parsed(overrides, source.problems):
        try:
            place = _set(source, path, value, label)
        except _Refused as refused:
            source.problems.append(Problem((), str(refused), label))
            continue
        nulls.discard(place)
        if value is None:
            nulls.add(place)
    return nulls


def values_of(settings: Sequence[str], *, example: str) -> dict[str, Any]:
    """The values of texts of the form `name=value`, read as YAML.

    Raises:
        JobError: with every text that has another form.

    Example:
        >>> values_of(["output={label: refund}"], example="output=yes")
        {'output': {'label': 'refund'}}
    """
    problems: list[Problem] = []
    values = {path: value for path, value, _ in _parsed(settings, problems, example=example)}
    if problems:
        raise JobError(problems)
    return values


def with_inputs(overrides: Mapping[str, Any] | Sequence[str], inputs: Mapping[str, Any]) -> Mapping[str, Any] | Sequence[str]:
    """Overrides that also give these inputs to nodes, by their label, id or `node_id::input`; see `dataset.inputs`."""
    if not inputs:
        return overrides
    if not isinstance(overrides, Mapping):
        overrides = values_of([overrides] if isinstance(overrides, str) else overrides, example="run.parallelism=64")
    return {**overrides, **{f"{_INPUTS}{address}": value for address, value in inputs.items()}}


def remove(source: Source, path: ValuePath) -> None:
    """Take a key out of its mapping."""
    value = source.value
    for step in path[:-1]:
        value = value[step]
    if isinstance(value, dict):
        del value[path[-1]]
        source.forget(path)


def with_outputs(job: Mapping[str, Any], outputs: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """A job in which nodes have fixed outputs and are not called.

    Such a node runs where and after what it did before; what it reads is run as well, for that may be part of the output.

    Args:
        job: what `effective_job` made; it is not changed.
        outputs: the value of each node by its id, or as on the command line, `["nodes.clean.output=x"]`. Nothing in a value
            is read as a template.

    Raises:
        JobError: with every mistake found: nodes the job does not have, texts of another form.

    Example:
        >>> job = {"workflow": {"nodes": [{"id": "a", "type": "python", "call": "m:f"}]}}
        >>> with_outputs(job, {"a": [1, "{{ x }}"]})["workflow"]["nodes"][0]["type"]
        'template'
    """
    nodes = job["workflow"]["nodes"]
    ids = [node["id"] for node in nodes]
    problems: list[Problem] = []
    fixed: dict[str, Any] = {}
    for id, value, label in _outputs(outputs, problems):
        if id in ids:
            fixed[id] = value
        else:
            problems.append(Problem((), f'unknown node "{id}"; {known_values(id, ids, kind="nodes")}', label))
    if problems:
        raise JobError(problems)
    replaced = [_with_output(node, fixed[node["id"]]) if node["id"] in fixed else node for node in nodes]
    changed = {**job, "workflow": {**job["workflow"], "nodes": replaced}}
    given = (job.get("dataset") or {}).get("inputs")
    if given:
        kept = _still_given(given, [node for node in nodes if node["id"] in fixed])
        changed["dataset"] = {**job["dataset"], "inputs": kept}
    return changed


def _still_given(inputs: Mapping[str, Any], fixed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The inputs that the dataset gives, without those of nodes which are not called."""
    names = {name for node in fixed for name in (node["id"], node.get("label"))}
    return {at: value for at, value in inputs.items() if not names & {at, at.rpartition("::")[0]}}


def _outputs(outputs: Mapping[str, Any] | Sequence[str], problems: list[Problem]) -> Iterable[tuple[str, Any, str]]:
    if isinstance(outputs, Mapping):
        yield from ((id, plain(value), f'outputs["{id}"]') for id, value in outputs.items())
        return
    for path, value, label in _parsed(outputs, problems, option="--override", example="nodes.clean.output=text"):
        match = _OUTPUT.fullmatch(path)
        if match:
            yield match[1], value, label
        else:
            problems.append(Problem((), f"{path!r} is not the output of a node; give it as nodes.ID.output=value", label))


def _with_output(node: Mapping[str, Any], value: Any) -> dict[str, Any]:
    read = {str(reference[1]) for reference in references_in(node) if reference[0] == "nodes" and len(reference) > 1}
    needs = list(node.get("needs") or ())
    needs += sorted(read.difference(needs))
    kept = {key: node[key] for key in ("label", "when") if key in node}
    return {"id": node["id"], "type": "template", **kept, "needs": needs, "template": _literal(value)}


def _literal(value: Any) -> Any:
    """A template of exactly this value."""
    if isinstance(value, str) and is_template(value):
        text = json.dumps(value).replace("{", "\\u007b").replace("}", "\\u007d")
        return f"{{{{ {text} }}}}"
    if isinstance(value, Mapping):
        return {key: _literal(inner) for key, inner in value.items()}
    return [_literal(inner) for inner in value] if isinstance(value, list | tuple) else value


def _parsed(
    overrides: Mapping[str, Any] | Sequence[str], problems: list[Problem], *, option: str = "--set", example: str = "run.parallelism=64"
) -> Iterable[tuple[str, Any, str]]:
    if isinstance(overrides, Mapping):
        yield from ((path, plain(value), f'overrides["{path}"]') for path, value in overrides.items())
        return
    for text in [overrides] if isinstance(overrides, str) else overrides:
        path, equals, value_text = text.partition("=")
        label = f"{option} {text}"
        if not equals:
            problems.append(Problem((), f"give it as path=value, for example {example}", label))
            continue
        try:
            value = read_yaml(value_text, path)
        except JobError as error:
            problems.extend(problem._replace(location=label) for problem in error.problems)
            continue
        problems.extend(problem._replace(location=label) for problem in value.problems)
        yield path.strip(), value.value, label


def _set(source: Source, text: str, value: Any, label: str) -> ValuePath:
    if not (_PATH.fullmatch(text) or text.startswith(_INPUTS)):
        raise _Refused(f"{text!r} is not a path such as run.parallelism or workflow.nodes.classify.timeout_seconds")
    steps: list[str | int] = [int(index) if index else name for index, name in _STEP.findall(text)]
    if text.startswith(_INPUTS):
        steps = ["dataset", "inputs", text.removeprefix(_INPUTS)]
    if steps == ["parallelism"]:  # the short form, which is the same value
        steps = ["run", "parallelism"]
    parent, path = source.value, cast("ValuePath", ())
    for step in steps[:-1]:
        key = _key(parent, step, path)
        path = (*path, key)
        if isinstance(parent, dict) and parent.get(key) is None:
            parent[key] = {}
            source.place(path, label)
        parent = parent[key]
    key = _key(parent, steps[-1], path)
    parent[key] = value
    path = (*path, key)
    source.forget(path)
    source.place(path, label)
    return path


def _key(parent: Any, step: str | int, path: ValuePath) -> Any:
    """The key in a mapping, or the index in a list, that a step of an override leads to."""
    if isinstance(parent, dict) and isinstance(step, str):
        return step
    if not isinstance(parent, list):
        wanted = "a list" if isinstance(step, int) else "a mapping or a list of nodes"
        raise _Refused(f"{dotted(path) or 'the job'} is {shown(parent)}, not {wanted}")
    if isinstance(step, int) or step.isdecimal():
        if int(step) >= len(parent):
            raise _Refused(f"{dotted(path)} has no element {step}; it has {len(parent)}")
        return int(step)
    ids = [each.get("id") if isinstance(each, dict) else None for each in parent]
    if step in ids:
        return ids.index(step)
    raise _Refused(f"{dotted(path)} has no {step!r}; {known_values(step, [name for name in ids if isinstance(name, str)], kind='ids')}")
