"""The rules of the house, as far as neither ruff nor import-linter checks them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "batchrun"
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 50
_COMMAND = """
import sys
from batchrun.cli import main
sys.argv = ["batchrun", *{arguments}]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""
PIN = re.compile(r"([A-Za-z0-9._-]+)==[A-Za-z0-9.+!]+")


def _python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _where(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def _nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in _nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in caught)


def _loaded_by(program: str, *names: str) -> list[str]:
    code = f"{program}\nimport sys\nprint('loaded:', *sorted({set(names)!r} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.rpartition("loaded:")[2].split()


def test_no_file_is_long() -> None:
    """A file that does not fit one reading has more than one subject."""
    lengths = {_where(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _python_files("batchrun", "tests", "configs")}
    assert {where: lines for where, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_function_is_long() -> None:
    """A function is read in one piece, its docstring aside."""
    lengths = {
        _where(path, function): _lines_without_docstring(function) for path in _python_files("batchrun") for function in _functions(path)
    }
    assert {where: lines for where, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def test_only_places_that_call_user_code_catch_everything() -> None:
    """Where user code is called, any exception is a failed item or job; anywhere else it is a fault that must be seen."""
    allowed = {
        *("batchrun/engine/attempt.py", "batchrun/engine/calls.py", "batchrun/engine/failures.py", "batchrun/engine/gathering.py"),
        *("batchrun/engine/part_engines.py", "batchrun/engine/parts.py", "batchrun/engine/quick_calls.py", "batchrun/engine/settling.py"),
        "batchrun/engine/batch_runs.py",  # inputs and outputs of items that are called together: values of users may run code of theirs
        *("batchrun/nodes/guarded.py", "batchrun/nodes/python.py"),  # the former: constructors, setup and pickling of users' values
        "batchrun/execution/reporting.py",  # a report, drawn by libraries of whatever a result holds, which the run must survive
        "batchrun/results/columns.py",  # rows made in threads that run items, which must not end of it: the writer says what is wrong
        "batchrun/telemetry/sinks.py",  # callbacks of users, which the run must survive
    }
    broad = [
        _where(path, node)
        for path in _python_files("batchrun")
        for node in _nodes(path)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    ]
    assert [where for where in broad if where.partition(":")[0] not in allowed] == []


def test_nothing_is_left_for_later() -> None:
    """What is left to do is an open issue, not a comment."""
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    files = [*_python_files("batchrun", "tests", "configs", "sample_data"), ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci/run"]
    assert [_where(path) for path in files if later.search(path.read_text(encoding="utf-8"))] == []


def test_every_test_says_what_it_protects() -> None:
    """A test that fails tells the reader why it is there."""
    silent = [
        _where(path, function)
        for path in _python_files("tests")
        for function in _functions(path)
        if function.name.startswith("test_") and ast.get_docstring(function) is None
    ]
    assert silent == []


def test_import_loads_no_heavy_library() -> None:
    """`import batchrun` costs next to nothing until a name is used."""
    assert _loaded_by("import batchrun", "httpx", "polars", "pyarrow", "pydantic") == []


def test_help_loads_no_heavy_library() -> None:
    """`batchrun --help` answers at once."""
    assert _loaded_by(_COMMAND.format(arguments=["--help"]), "asyncio", "httpx", "polars", "pyarrow", "pydantic") == []


@pytest.mark.parametrize("command", ["validate", "run"])
def test_commands_load_only_what_the_job_needs(command: str, tmp_path: Path) -> None:
    """A small job is checked, and run, in less time than it takes to load what it makes no use of."""
    others = [f"batchrun.nodes.{name}" for name in ("chat", "file", "flux", "http", "nadoo", "remote", "switch", "workflow")]
    unneeded = ["aiohttp", "cryptography", "deltalake", "duckdb", "httpx", "obstore", "opentelemetry", "prometheus_client", *others]
    if command == "validate":
        unneeded += ["pyarrow.compute", "tqdm", "batchrun.engine.engine", "batchrun.dispatch.dispatcher", "batchrun.reports"]
    arguments = [command, "configs/quickstart.yaml", "--set", f"output.path={tmp_path}"]
    assert _loaded_by(_COMMAND.format(arguments=arguments), *unneeded) == []


def test_packages_that_load_late_offer_what_they_say() -> None:
    """Every name of such a package is found, and no module of it has one of the names: its import would take the place of the other."""
    late = [path.parent for path in _python_files("batchrun") if "__getattr__ = loader(" in path.read_text(encoding="utf-8")]
    assert len(late) > 1
    for folder in late:
        package = import_module(".".join(folder.relative_to(ROOT).parts))
        assert [name for name in package.__all__ if not hasattr(package, name)] == []
        assert {path.stem for path in folder.iterdir()}.intersection(package.__all__) == set()


def test_constraints_are_exact_and_complete() -> None:
    """The same checkout installs the same versions everywhere, wherever packages come from."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert lines == sorted(lines, key=str.lower)

    pinned = {_normal(line.partition("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    chosen = [requirement for name in ("bench", "cloud", "delta", "flux", "lint", "nadoo", "otel", "test") for requirement in extras[name]]
    needed = {_normal(requirement) for requirement in [*project["dependencies"], *chosen]}
    assert needed - pinned == {"batchrun"}  # whose extras are those above
    assert "batchrun" not in pinned


def _normal(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
