"""The `python` node: functions of users, found, checked and called."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchrun.core.errors import JobError
from batchrun.core.job import Workflow
from batchrun.nodes.python import PythonNode
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.fingerprint import described, differences
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

if TYPE_CHECKING:
    from elsewhere import OnlyForTypeCheckers  # type: ignore[import-not-found]


def plan_of(call: str | Callable[..., Any], **inputs: Any) -> Plan:
    node = PythonNode(id="work", call=call, inputs=inputs)
    return compile_workflow(Workflow(nodes=(node,)), Surroundings(columns=("name", "size"), input_field="name"))


def result_of(call: str | Callable[..., Any], **inputs: Any) -> Any:
    """What the function returns for an item."""
    (step,) = plan_of(call, **inputs).steps
    scope = Scope({"name": "Bob", "size": 3}, [None])
    scope.inputs = step.inputs(scope)
    found = step.call(scope)
    assert inspect.iscoroutine(found) is step.waits
    return asyncio.run(found) if step.waits else found


def problems_of(call: str | Callable[..., Any], **inputs: Any) -> list[str]:
    with pytest.raises(JobError) as caught:
        plan_of(call, **inputs)
    return [str(problem).removeprefix("workflow.nodes[0].") for problem in caught.value.problems]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the Python path; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


WORK = """
import math

def clean(text): return text.strip()

class Steps:
    @staticmethod
    def upper(text): return text.upper()
    size = 3
"""


def test_functions_are_found_by_module_and_name(modules: Path) -> None:
    """Names within classes and modules of packages work as they do in an import."""
    (modules / "batchrun_pkg").mkdir()
    (modules / "batchrun_pkg" / "work.py").write_text(WORK)
    assert result_of("batchrun_pkg.work:clean", text=" {{ item.name }} ") == "Bob"
    assert result_of("batchrun_pkg.work:Steps.upper") == "BOB"
    assert result_of("batchrun_pkg.work:math.floor", x="{{ item.size }}") == 3


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("no_such_module:f", "there is no module 'no_such_module' on the Python path, in the job's folder or in the working directory"),
        ("pkg.no_such:f", "there is no module 'pkg.no_such' on the Python path, in the job's folder or in the working directory"),
        ("no_such.pkg:f", "there is no module 'no_such.pkg' on the Python path, in the job's folder or in the working directory"),
        ("pkg.needy:f", "module 'pkg.needy' needs 'no_such_library', which is not installed"),
        ("pkg.wrong:f", "importing 'pkg.wrong' failed: SyntaxError: invalid syntax ({folder}/pkg/wrong.py:2)"),
        ("pkg.raising:f", "importing 'pkg.raising' failed: ZeroDivisionError: division by zero ({folder}/pkg/raising.py:3)"),
        ("pkg.leaving:f", "importing 'pkg.leaving' failed: SystemExit: 3 ({folder}/pkg/leaving.py:1)"),
        ("pkg.work:claen", "pkg.work has no 'claen'; did you mean \"clean\"?"),
        ("pkg.work:Steps.uper", "pkg.work.Steps has no 'uper'; did you mean \"upper\"?"),
        ("pkg.work:Steps.size", "pkg.work:Steps.size is not a function but int"),
        ("pkg.work", "must be module:function, got 'pkg.work'"),
        (":clean", "must be module:function, got ':clean'"),
        ("pkg.work:", "must be module:function, got 'pkg.work:'"),
    ],
)
def test_functions_that_cannot_be_found_are_explained(modules: Path, call: str, problem: str) -> None:
    """Nobody has to guess whether the name, the module, a library it needs or its own code is wrong."""
    (modules / "pkg").mkdir()
    texts = {
        "work": WORK,
        "needy": "import no_such_library",
        "wrong": "x = 1\ny = = 2\n",
        "raising": "def f():\n    return\nf() or 1 / 0\n",
        "leaving": "raise SystemExit(3)",
    }
    for name, text in texts.items():
        (modules / "pkg" / f"{name}.py").write_text(text)
    assert problems_of(call) == [f"call: {problem.format(folder=modules)}"]


def one(text: str) -> str:
    return f"{text}!"


def optional(text: str, times: int = 2, *, end: str = ".") -> str:
    return text * times + end


def anything(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


def by_position(a: int, b: int = 10, c: int = 100, /, d: int = 1000, **more: int) -> list[Any]:
    return [a, b, c, d, more]


async def later(text: str) -> str:
    await asyncio.sleep(0)
    return f"{text} later"


class Greeter:
    """Callable objects, as models and clients of libraries are."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, text: str) -> str:
        return f"{self.word} {text}"

    async def greet(self, text: str) -> str:
        return self(text)


class LateGreeter(Greeter):
    async def __call__(self, text: str) -> str:  # type: ignore[override]
        return f"{self.word} later, {text}"


@functools.lru_cache
def remembered(text: str) -> str:
    return text.lower()


@pytest.mark.parametrize(
    ("call", "inputs", "result"),
    [
        (one, {}, "Bob!"),
        (one, {"text": "{{ item.size }}"}, "3!"),
        (optional, {}, "BobBob."),
        (optional, {"text": "a", "end": "?"}, "aa?"),
        (lambda: "nothing", {}, "nothing"),
        (anything, {}, [[], {}]),
        (anything, {"first name": 1, "kwargs": 2}, [[], {"first name": 1, "kwargs": 2}]),
        (by_position, {"c": 3, "a": 1}, [1, 10, 3, 1000, {}]),
        (by_position, {"z": 26, "d": 4, "b": 2, "a": 1}, [1, 2, 100, 4, {"z": 26}]),
        (later, {}, "Bob later"),
        (functools.partial(later, text="Eve"), {}, "Eve later"),
        (functools.partial(optional, times=1), {}, "Bob."),
        (functools.partial(functools.partial(optional, "x"), 3), {"end": ""}, "xxx"),
        (Greeter("Hi"), {}, "Hi Bob"),
        (Greeter("Hi").greet, {}, "Hi Bob"),
        (LateGreeter("Hi"), {}, "Hi later, Bob"),
        (functools.partial(LateGreeter("Hi"), text="Eve"), {}, "Hi later, Eve"),
        (remembered, {}, "bob"),
        ("builtins:str.upper", {}, "BOB"),
        ("builtins:str", {}, "Bob"),
        ("builtins:len", {"obj": "{{ item.name }}"}, 3),
        ("math:pow", {"y": 2, "x": "{{ item.size }}"}, 9.0),
        ("json:dumps", {}, '"Bob"'),
        (json.JSONEncoder().encode, {}, '"Bob"'),
    ],
    ids=range(24),
)
def test_functions_are_called_with_their_inputs(call: str | Callable[..., Any], inputs: dict[str, Any], result: Any) -> None:
    """By name, by position where there is no name, awaited when they are async; one needed argument is the input."""
    assert result_of(call, **inputs) == result


@pytest.mark.parametrize(
    ("call", "inputs", "problems"),
    [
        (by_position, {"b": 1}, ["inputs: the function's parameter 'a' is missing"]),
        (
            one,
            {"txt": 1},
            [
                "inputs.txt: the function has no parameter 'txt'; did you mean \"text\"?",
                "inputs: the function's parameter 'text' is missing",
            ],
        ),
        (lambda a, b: a + b, {}, ["call: the function needs a, b: give each under inputs"]),
        (lambda *args: args, {"args": 1}, ["inputs.args: the function has no parameter 'args'; there are no parameters"]),
        (lambda: 1, {"x": 1}, ["inputs.x: the function has no parameter 'x'; there are no parameters"]),
        (functools.partial(optional, "x"), {"text": 1}, ["inputs.text: the function has no parameter 'text'; parameters: end, times"]),
        (one, {"text": "{{ item.nmae }}"}, ['inputs.text: unknown column "nmae"; did you mean "name"?']),
    ],
    ids=range(7),
)
def test_inputs_are_checked_against_the_parameters(call: Callable[..., Any], inputs: dict[str, Any], problems: list[str]) -> None:
    """A wrong or missing argument is found before the first item, not once per item."""
    assert problems_of(call, **inputs) == problems


def unresolvable(text: str) -> OnlyForTypeCheckers:
    return text


def misspelt(text: str) -> "not a type":  # type: ignore[valid-type]  # noqa: F722
    return text


@pytest.mark.parametrize(
    ("call", "column"),
    [
        (one, "string"),
        (later, "string"),
        (functools.partial(optional, "x"), "string"),
        (Greeter("Hi"), "string"),
        (LateGreeter("Hi").greet, "string"),
        (remembered, "string"),
        (lambda text: text, None),
        (unresolvable, None),
        (misspelt, None),
        (str.upper, None),
    ],
    ids=range(10),
)
def test_return_annotations_give_the_output_column_its_type(call: Callable[..., Any], column: str | None) -> None:
    """However a function is wrapped, what it says it returns counts; what cannot be resolved does not stop anything."""
    plan = plan_of(call)
    assert plan.output_type == column
    assert plan.columns == (("name",) if call.__class__ is not functools.partial else ())


def test_the_fingerprint_follows_the_code(modules: Path) -> None:
    """The same code is the same work wherever the function comes from; other code, or other fixed arguments, are not."""
    (modules / "work.py").write_text("def f(text):\n    return text\n\ndef g(text):\n    return text + text\n")
    by_name, other = plan_of("work:f").fingerprint, plan_of("work:g").fingerprint
    assert plan_of(sys.modules["work"].f).fingerprint == by_name != other
    partials = [plan_of(functools.partial(optional, times=times)).fingerprint for times in (2, 2, 3)]
    assert partials[0] == partials[1] != partials[2]
    objects = [plan_of(functools.partial(anything, Greeter(word))).fingerprint for word in ("Hi", "Hi")]
    assert objects[0] == objects[1], "an object that cannot be written down must not make each run another one"
    assert plan_of(Greeter("Hi")).fingerprint != plan_of(LateGreeter("Hi")).fingerprint
    assert plan_of("builtins:str").fingerprint != plan_of("builtins:repr").fingerprint
    before = described(plan_of("work:f"))
    assert differences(before, plan_of("work:g")) == [("work", "node work: its function or what it calls changed")]
    assert differences(before, plan_of("work:f", text="x")) == [("work", "node work: its options changed")]
