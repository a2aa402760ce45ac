"""Log lines: names out of the glossary, nothing personal in them, and a sink that nobody has to wait for."""

from __future__ import annotations

import ast
import json
import logging as library_logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bridge
from bridge.model.commands import PlaceCall
from bridge.runtime.glossary import GLOSSARY, IDS
from bridge.runtime.log_sink import Sink
from bridge.runtime.logging import capture_logs, configure, get_logger
from bridge.runtime.settings import Logging

SOURCE = Path(bridge.__file__).parent
METHODS = frozenset({"debug", "info", "warning", "error", "exception", "bind"})
NUMBER = "+4930123456789"
log = get_logger()


class Pipe:
    """A pipe: one end for a sink, the other for the test."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def lines(self) -> list[dict[str, object]]:
        """All that was written; the sink must be closed."""
        os.close(self.write_end)
        with os.fdopen(self.read_end) as file:
            return [json.loads(line) for line in file]


class Reader(threading.Thread):
    """Reads a pipe to its end, beside the test."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self.lines: list[dict[str, object]] = []
        self._pipe = pipe
        self.start()

    def run(self) -> None:
        """Until the other end is closed."""
        with os.fdopen(self._pipe.read_end) as file:
            self.lines += [json.loads(line) for line in file]


@pytest.fixture
def pipe() -> Pipe:
    """A fresh pipe."""
    return Pipe()


def test_a_line_of_json(pipe: Pipe) -> None:
    """Time, level and event come first, then what was bound, then the fields."""
    with configure(Logging(), descriptor=pipe.write_end):
        log.bind(connection="demo").info("webhook.answered", status=200, duration_ms=1.5)
    [line] = pipe.lines()

    assert list(line) == ["timestamp", "level", "event", "connection", "status", "duration_ms"]
    assert (line["level"], line["event"], line["connection"]) == ("info", "webhook.answered", "demo")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(str(line["timestamp"]))).total_seconds() < 5


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_level(pipe: Pipe, level: str, expected: int) -> None:
    """Lines below the level are not written."""
    with configure(Logging(level=level), descriptor=pipe.write_end):  # type: ignore[arg-type]  # a Literal, parametrised
        for say in (log.debug, log.info, log.warning, log.error):
            say("x.said")

    assert len(pipe.lines()) == expected


def test_a_logger_follows_each_set_up() -> None:
    """A module's logger outlives a set-up; outside of any it is silent, and a second daemon gets its own lines."""
    log.error("x.lost")
    first, second = Pipe(), Pipe()
    with configure(Logging(), descriptor=first.write_end):
        log.info("x.first")
    with configure(Logging(), descriptor=second.write_end):
        log.info("x.second")
    log.error("x.lost")

    assert [line["event"] for line in first.lines() + second.lines()] == ["x.first", "x.second"]


def test_console(pipe: Pipe) -> None:
    """For a person: one line of text."""
    with configure(Logging(format="console"), descriptor=pipe.write_end):
        log.info("x.said", detail=f"to {NUMBER}")
    os.close(pipe.write_end)
    with os.fdopen(pipe.read_end) as file:
        [text] = file.readlines()

    assert "x.said" in text
    assert NUMBER not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"dialled {NUMBER} twice", "dialled +493********89 twice"),
        ("0049 30 123-456 is busy", "0049*********56 is busy"),
        ([NUMBER, 1], ["+493********89", 1]),
        ({"to": NUMBER}, {"to": "+493********89"}),
        ("a b" * 500, ("a b" * 500)[:499] + "…"),
        (PlaceCall(command_id="c", connection="d", to=NUMBER), "<PlaceCall>"),
        (ValueError(f"no route to {NUMBER}"), "ValueError: no route to +493********89"),
        (ExceptionGroup("both", [OSError("one"), KeyError("two")]), "ExceptionGroup(OSError: one, KeyError: 'two')"),
        (b"bytes", "<bytes>"),
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00+00:00"),
        ("sip:alice@example.com", "sip:alice@example.com"),
        (None, None),
        (True, True),
    ],
)
def test_values_are_made_safe(value: object, expected: object) -> None:
    """What looks like a number is masked wherever it stands, long text is cut, and objects are named, not printed."""
    with capture_logs() as lines:
        log.info("x.said", detail=value)

    assert lines[0]["detail"] == expected


def test_ids_are_left_alone() -> None:
    """An id may be all digits and is still needed as it is."""
    with capture_logs() as lines:
        log.info("x.said", provider_call_id="4930123456789", session="4930123456789", key="4930123456789")

    assert (lines[0]["provider_call_id"], lines[0]["session"]) == ("4930123456789", "4930123456789")
    assert lines[0]["key"] == "4930*******89"


def fail() -> None:
    """Raise what nobody expected."""
    raise ValueError(f"no route to {NUMBER}")


def test_unexpected_exception_has_a_traceback() -> None:
    """`exception` says type, scrubbed message and where it came from."""
    with capture_logs() as lines:
        try:
            fail()
        except ValueError:
            log.exception("part.failed", part="x")

    assert lines[0]["error"] == "ValueError: no route to +493********89"
    assert "test_unexpected_exception_has_a_traceback" in str(lines[0]["traceback"])
    assert NUMBER not in str(lines[0])


def test_libraries_are_heard() -> None:
    """Warnings of libraries come out as lines of ours, scrubbed; their chatter does not."""
    pipe = Pipe()
    with configure(Logging(), descriptor=pipe.write_end):
        library_logging.getLogger("some.library").warning("call %s", NUMBER)
        library_logging.getLogger("some.library").info("chatter")
        library_logging.getLogger("some.library").error("failed", exc_info=OSError("gone"))
    warned, failed = pipe.lines()

    assert (warned["event"], warned["library"], warned["detail"]) == (
        "library.warned", "some.library", "call +493********89"
    )  # fmt: skip
    assert (failed["level"], failed["error"]) == ("error", "OSError: gone")


def test_order_and_completeness_over_threads(pipe: Pipe) -> None:
    """Lines of several threads are all written, those of one thread in their order."""

    def write(sink: Sink, name: int) -> None:
        for number in range(500):
            sink.write(b'{"thread":%d,"count":%d}' % (name, number))

    reader = Reader(pipe)
    with Sink(pipe.write_end) as sink:
        threads = [threading.Thread(target=write, args=(sink, name)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    os.close(pipe.write_end)
    reader.join()

    assert sink.dropped_lines == 0
    for name in range(4):
        assert [line["count"] for line in reader.lines if line["thread"] == name] == list(range(500))


def test_a_line_is_written_soon(pipe: Pipe) -> None:
    """A single line does not wait for others."""
    with Sink(pipe.write_end) as sink:
        sink.write(b'{"event":"x.said"}')
        assert os.read(pipe.read_end, 100) == b'{"event":"x.said"}\n'
    os.close(pipe.read_end)
    os.close(pipe.write_end)


def test_a_stuck_reader_costs_lines_not_time(pipe: Pipe) -> None:
    """When nobody reads, writing stays quick, what exceeds the cap is counted, and the gap is said afterwards."""
    line = b'{"event":"%s"}' % (b"x" * 1000)
    with Sink(pipe.write_end, max_buffered_lines=300) as sink:
        started = time.monotonic()
        for _ in range(3000):
            sink.write(line)
        assert time.monotonic() - started < 1.0
        assert sink.dropped_lines > 1000

        reader = Reader(pipe)
    os.close(pipe.write_end)
    reader.join()

    gaps = [entry for entry in reader.lines if entry["event"] == "log.lines_dropped"]
    assert gaps[-1]["count"] == sink.dropped_lines
    assert len(reader.lines) - len(gaps) + sink.dropped_lines == 3000


def test_output_that_is_gone(pipe: Pipe) -> None:
    """A reader that went away costs its lines and nothing else."""
    os.close(pipe.read_end)
    with Sink(pipe.write_end) as sink:
        sink.write(b"{}")
    os.close(pipe.write_end)

    assert sink.dropped_lines == 1


def _fields() -> Iterator[tuple[str, str]]:
    """Each keyword of a log call in the source, and where."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and _is_log_call(node.func):
                for keyword in node.keywords:
                    yield f"{file.relative_to(SOURCE)}:{node.lineno}", str(keyword.arg)


def _is_log_call(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id == "get_logger"
    if not isinstance(function, ast.Attribute) or function.attr not in METHODS:
        return False
    return ast.unparse(function.value).strip("_").removeprefix("self._") in {"log", "library_log", "logger"}


def test_every_field_is_in_the_glossary() -> None:
    """A field name in the source that is not in the closed list is a mistake."""
    used = list(_fields())

    assert len(used) > 10
    assert [(place, name) for place, name in used if name not in GLOSSARY and name != "None"] == []


def test_ids_are_in_the_glossary() -> None:
    """The names that are never scrubbed are names of the glossary."""
    assert set(GLOSSARY) >= IDS
