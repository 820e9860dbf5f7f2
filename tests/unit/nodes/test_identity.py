"""The identity of functions: what changes it, what does not, and that no function is too odd for it."""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.nodes.identity import identity_of

PACKAGE = {
    "shop/__init__.py": "from .words import score\n",
    "shop/tickets.py": '''
"""Tickets."""
import functools
import json
from dataclasses import dataclass

import shop.words as known
from shop import helpers, score
from shop.rules import *

LIMIT = 3
TABLE = {}
TABLE["a"] = 1
PATTERNS = []
PATTERNS.append("x")
UNUSED = 1


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        return _noted(function(*args))
    return wrapper


def _noted(value):
    return value


@dataclass
class Label:
    name: str

    def shown(self):
        return _upper(self.name)


def _upper(text):
    return text.upper()


@logged
def clean(text: str) -> Label:
    """Cleans."""
    from .lazily import imported

    # Strips first.
    parts = [helpers.normalise(_strip(text))[:LIMIT], TABLE, PATTERNS, score, rule, known.LABELS, json.dumps]
    return Label(again(parts, imported))


def _strip(text):
    return text.strip()


def again(parts, depth):
    return again(parts, depth - 1) if depth else parts


@functools.cache
def unused():
    return 1


class Cleaner:
    def __init__(self, word, limit=LIMIT):
        self.word = word

    def __call__(self, text):
        return _strip(text) + self.word


def make(word):
    def inner(text):
        return _strip(text) + word
    return inner


first, second = lambda text: text, lambda text: text + text
''',
    "shop/helpers.py": "from .deeper import depth\n\n\ndef normalise(text):\n    return depth(text)\n",
    "shop/deeper.py": "from . import helpers\n\n\ndef depth(text):\n    return helpers.normalise and text\n",
    "shop/words.py": "LABELS = ['a', 'b']\n\n\ndef score(text):\n    return len(text)\n",
    "shop/rules.py": "try:\n    import quick\nexcept ImportError:\n    quick = None\n\n\ndef rule(text):\n    return quick or text\n",
    "shop/lazily.py": "imported = 2\n",
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Gives the module `shop.tickets` of the package, with edits in it, as a new process would import it."""
    before = set(sys.modules)

    def forget() -> None:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "shop":
                del sys.modules[name]

    def imported(*edits: tuple[str, str, str]) -> Any:
        forget()
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        files = dict(PACKAGE)
        for file, old, new in edits:
            assert old in files[file]
            files[file] = files[file].replace(old, new)
        for file, text in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(folder)
        return importlib.import_module("shop.tickets")

    yield imported
    forget()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tickets", "[:LIMIT]", "[:LIMIT + 1]"),
        ("tickets", "text.strip()", "text.lstrip()"),
        ("tickets", "LIMIT = 3", "LIMIT = 4"),
        ("tickets", 'TABLE["a"] = 1', 'TABLE["a"] = 2'),
        ("tickets", 'PATTERNS.append("x")', 'PATTERNS.append("y")'),
        ("tickets", "@logged\n", "@logged\n@logged\n"),
        ("tickets", "    return value\n", "    return [value]\n"),
        ("tickets", "name: str", "name: bytes"),
        ("tickets", "text.upper()", "text.lower()"),
        ("helpers", "depth(text)", "depth(text + text)"),
        ("deeper", "and text", "or text"),
        ("words", "'b'", "'c'"),
        ("words", "len(text)", "2 * len(text)"),
        ("rules", "quick = None", "quick = 1"),
        ("rules", "or text", "and text"),
        ("lazily", "imported = 2", "imported = 3"),
        ("tickets", "shop.words as known", "shop.helpers as known"),
    ],
)
def test_a_change_of_what_it_calls_changes_a_function(shop: Callable[..., Any], file: str, old: str, new: str) -> None:
    """An output that other code made must never pass for one of the code of now, however that code is reached."""
    before = identity_of(shop().clean)
    assert identity_of(shop((f"shop/{file}.py", old, new)).clean) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tickets", "# Strips first.", "# Strips at last."),
        ("tickets", '"""Cleans."""', '"""Cleans a\n    text."""\n\n\n'),
        ("tickets", '"""Tickets."""', "import os\n"),
        ("tickets", 'TABLE["a"] = 1', "TABLE[ 'a' ]  = 1  # one"),
        ("tickets", "UNUSED = 1", "UNUSED = 2"),
        ("tickets", "    return 1\n", "    return 2\n"),
        ("words", "LABELS", "OTHERS = 1\n\nLABELS"),
    ],
)
def test_what_has_no_meaning_does_not_change_a_function(shop: Callable[..., Any], file: str, old: str, new: str) -> None:
    """Documenting or tidying up code, or moving its folder, must not cost what was done with it."""
    before = identity_of(shop().clean)
    assert identity_of(shop((f"shop/{file}.py", old, new)).clean) == before


def test_each_form_of_a_callable_is_followed(shop: Callable[..., Any]) -> None:
    """Partials, closures, methods and objects are what they are made of: code, arguments, enclosed values, attributes."""
    forms: dict[str, Callable[[Any], Any]] = {
        "partial": lambda module: functools.partial(module.again, depth=[1, {"a": {2, 3}}]),
        "other partial": lambda module: functools.partial(module.again, depth=[1, {"a": {2, 4}}]),
        "closure": lambda module: module.make("x"),
        "other closure": lambda module: module.make("y"),
        "object": lambda module: module.Cleaner("x"),
        "other object": lambda module: module.Cleaner("y"),
        "method": lambda module: module.Cleaner("x").__call__,
        "class": lambda module: module.Cleaner,
        "cached": lambda module: functools.lru_cache(module.again),
        "function": lambda module: module.again,
        "first lambda": lambda module: module.first,
        "second lambda": lambda module: module.second,
    }
    module = shop()
    identities = {name: identity_of(make(module)) for name, make in forms.items()}
    assert len(set(identities.values())) == len(forms)
    again = shop()
    assert {name: identity_of(make(again)) for name, make in forms.items()} == identities
    edited = shop(("shop/tickets.py", "text.strip()", "text"), ("shop/tickets.py", "else parts", "else None"))
    changed = {name for name, make in forms.items() if identity_of(make(edited)) != identities[name]}
    assert changed == set(forms) - {"first lambda", "second lambda"}


def test_swapped_names_are_another_function(shop: Callable[..., Any]) -> None:
    """The same pieces of source under one another's names do something else."""
    edits = [
        ("shop/tickets.py", "import helpers, score", f"import helpers, score\nfrom shop.deeper import {names}")
        for names in ("depth as a\nfrom shop.words import score as b", "depth as b\nfrom shop.words import score as a")
    ]
    use = ("shop/tickets.py", "    return 1\n", "    return a(1) + 2 * b(1)\n")
    assert identity_of(shop(edits[0], use).unused) != identity_of(shop(edits[1], use).unused)


PROGRAM = """
import functools, sys
sys.path.insert(0, sys.argv[1])
from batchrun.nodes.identity import identity_of
LIMIT = {limit}
def helper(text): return text[:LIMIT]
def typed(text):
    import shop.tickets
    return helper(text), {{"a", "b", "c"}}, text in {{"x", "y", "z"}}
from shop.tickets import Cleaner, clean
print(identity_of(functools.partial(clean, {{"a", "b", "c", "d"}})))
print(identity_of(Cleaner("x")), identity_of(typed))
"""


def test_the_identity_is_the_same_in_every_process(shop: Callable[..., Any]) -> None:
    """A resume in another process, on another machine, with other hashes and addresses, finds the same function; typed-in ones too."""
    folders = [str(Path(shop().__file__).parents[1]) for _ in range(2)]
    found = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM.format(limit=limit), folder],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, folder, limit in (("1", folders[0], 3), ("2", folders[1], 3), ("3", folders[1], 4))
    ]
    assert found[0] == found[1] != found[2]
    assert not any(folder in found[0] for folder in folders)


def test_functions_without_source_are_told_apart_by_their_bytecode() -> None:
    """What is typed into a prompt can be edited there as well; what it calls, too."""
    text = (
        "import math\nK = 1\ndef helper(x):\n    return x\n"
        "def f(x):\n    'Documented.'\n    return [helper(y) + K + math.floor(y) for y in x]\n"
    )

    def typed(old: str = "", new: str = "") -> str:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(text.replace(old, new), names)  # noqa: S102  # as a prompt does
        return identity_of(names["f"])

    assert typed() == typed() == typed("Documented.", "Well documented.")
    changes = [("return x", "return -x"), ("K = 1", "K = 2"), ("math.floor", "math.ceil"), ("+ K", "- K")]
    assert len({typed(), *(typed(*change) for change in changes)}) == 5


def test_a_function_edited_on_the_disk_after_its_import_still_has_an_identity(shop: Callable[..., Any]) -> None:
    """A file that was cut off meanwhile is not the source of what runs."""
    module = shop()
    file = Path(module.__file__)
    before = identity_of(module.make("x"))
    file.write_text("def broken(:\n", encoding="utf-8")
    assert identity_of(module.make("x")) != before
    file.unlink()
    assert "inner" in identity_of(module.make("x"))
