"""Measure the source against its budgets: lines, nesting, methods, `Any`, broad handlers. `make check` runs this file.

Prints a row `file:line: what, budget` for each excess and exits with 1 if there is one. Exceptions are listed here, each
with its reason, and an exception that is not needed any more is an excess too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

FILE_LINES = {"bridge": 400, "tests": 600}
FUNCTION_LINES = 50
NESTING = 3
PUBLIC_METHODS = 8
ANY_PER_KLOC = 5.0
BROAD_HANDLERS = 7

# `file::name`: why it may exceed a budget.
EXCEPTIONS: dict[str, str] = {
    "bridge/ingress/guarded.py::GuardedProtocol": "callbacks that asyncio, httptools and uvicorn name",
    "bridge/ingress/websocket.py::WebSocket": "half of them are callbacks that asyncio and the server name",
    "bridge/demo/simulators/history.py::History": "a simulator's memory: one verb for each thing that can happen",
}

# `file::function` that catches Exception or BaseException: why there, and what it does with it.
BROAD: dict[str, str] = {
    "bridge/runtime/supervisor.py::_noting": "every failure of every part comes by here, is logged, and ends the process",
    "bridge/bus/kafka/connection.py::_start": "a start that fails in any way, or is cancelled, must not leak its connections",
    "bridge/bus/kafka/group.py::opened": "partitions are given back however the block ends; raised again",
    "bridge/bus/kafka/group.py::_assign": "aiokafka swallows what a listener raises: kept, and raised by the next poll",
    "bridge/bus/kafka/group.py::_revoke": "the same, when partitions go",
    "bridge/ingress/router.py::__call__": "an error of ours is counted as 500; raised again, so the log has its traceback",
    "bridge/client/hearing.py::_handled": "a consumer's own code: one event's failure is logged and is not the program's",
}

# A `with` is a lifetime, not a branch: it does not count, what is inside it does.
_NESTS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)
_LIFETIMES = (ast.With, ast.AsyncWith)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Excess(NamedTuple):
    """One row of the report. `name` is what `EXCEPTIONS` would call it."""

    name: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.name.split('::')[0]}:{self.line}: {self.what} ({self.name.split('::')[-1]})"


class Source(NamedTuple):
    """One file."""

    path: str
    text: str
    tree: ast.Module

    @property
    def is_test(self) -> bool:
        """Whether it is part of the tests."""
        return self.path.startswith("tests/")


def main() -> int:
    """Measure everything; returns the exit code."""
    sources = [_source(path) for folder in FILE_LINES for path in sorted((ROOT / folder).rglob("*.py"))]
    rows = [row for source in sources for row in (*_lines(source), *_functions(source), *_classes(source))]
    excesses = [str(row) for row in rows if row.name not in EXCEPTIONS]
    excesses += [
        f"tests/budgets.py:1: exception not needed: {name}" for name in EXCEPTIONS.keys() - {row.name for row in rows}
    ]
    excesses += [*_any([source for source in sources if not source.is_test]), *_broad(sources)]
    for excess in sorted(excesses):
        sys.stdout.write(f"{excess}\n")
    return 1 if excesses else 0


def _source(path: Path) -> Source:
    text = path.read_text(encoding="utf-8")
    return Source(str(path.relative_to(ROOT)), text, ast.parse(text))


def _lines(source: Source) -> Iterator[Excess]:
    count, budget = source.text.count("\n"), FILE_LINES["tests" if source.is_test else "bridge"]
    if count > budget:
        yield Excess(f"{source.path}::file", 1, f"{count} lines, {budget} allowed")


def _functions(source: Source) -> Iterator[Excess]:
    for node in ast.walk(source.tree):
        if not isinstance(node, _FUNCTIONS):
            continue
        name = f"{source.path}::{node.name}"
        if (count := _body_lines(node)) > FUNCTION_LINES:
            yield Excess(name, node.lineno, f"{count} lines without docstring, {FUNCTION_LINES} allowed")
        if not source.is_test and (depth := _depth(node.body)) > NESTING:
            yield Excess(name, node.lineno, f"nested {depth} deep, {NESTING} allowed")


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From the name to the end, without docstring."""
    docstring = node.body[0] if ast.get_docstring(node) is not None else None
    documented = (docstring.end_lineno or 0) - docstring.lineno + 1 if docstring else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - documented


def _depth(body: list[ast.stmt]) -> int:
    """The deepest nesting of blocks; an `elif` is as deep as its `if`, a function inside counts for itself."""
    return max((_depth_of(statement) for statement in body), default=0)


def _depth_of(statement: ast.stmt) -> int:
    if isinstance(statement, _LIFETIMES):
        return _depth(statement.body)
    if not isinstance(statement, _NESTS):
        return 0
    if isinstance(statement, ast.If) and len(statement.orelse) == 1 and isinstance(statement.orelse[0], ast.If):
        return max(1 + _depth(statement.body), _depth_of(statement.orelse[0]))
    return 1 + max((_depth(body) for body in _bodies(statement)), default=0)


def _bodies(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        yield getattr(statement, name, [])
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


def _classes(source: Source) -> Iterator[Excess]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and not source.is_test:
            public = [entry.name for entry in node.body if isinstance(entry, _FUNCTIONS) and _is_public_method(entry)]
            if len(public) > PUBLIC_METHODS:
                what = f"{len(public)} public methods, {PUBLIC_METHODS} allowed"
                yield Excess(f"{source.path}::{node.name}", node.lineno, what)


def _is_public_method(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A property is an attribute to whoever uses it."""
    return function.name[0] != "_" and not any(ast.unparse(name) == "property" for name in function.decorator_list)


def _any(sources: list[Source]) -> Iterator[str]:
    uses = [
        f"{source.path}:{node.lineno}"
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    lines = sum(source.text.count("\n") for source in sources)
    if 1000 * len(uses) > ANY_PER_KLOC * lines:
        said = f"`Any` is used {len(uses)} times in {lines} lines, {ANY_PER_KLOC:g} per thousand allowed"
        yield f"{uses[0]}: {said}: {', '.join(uses)}"


def _broad(sources: list[Source]) -> Iterator[str]:
    found = dict(named for source in sources if not source.is_test for named in _broad_handlers(source))
    for name, line in found.items():
        if name not in BROAD:
            yield f"{name.split('::')[0]}:{line}: a broad handler that tests/budgets.py does not name ({name})"
    for name in BROAD.keys() - found.keys():
        yield f"tests/budgets.py:1: no broad handler any more: {name}"
    if len(found) > BROAD_HANDLERS:
        yield f"tests/budgets.py:1: {len(found)} broad handlers, {BROAD_HANDLERS} allowed"


def _broad_handlers(source: Source) -> Iterator[tuple[str, int]]:
    for function in ast.walk(source.tree):
        if isinstance(function, _FUNCTIONS):
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and _is_broad(node):
                    yield f"{source.path}::{function.name}", node.lineno


def _is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in caught)


if __name__ == "__main__":
    sys.exit(main())
