"""Log lines: JSON for machines or colours for a terminal, with field names of a closed glossary.

A line costs a few microseconds, never blocks the event loop, and holds no phone number, transcript or secret: what
looks like a number is masked, exceptions are scrubbed, values that are no scalars are named by their type. What to say
is the caller's part, preferably one line per unit of work; this is the process's one log, so its set-up is global.
"""

from __future__ import annotations

import logging as library_logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import datetime
from typing import TypeAlias

import msgspec
import structlog
from structlog.dev import ConsoleRenderer

from bridge.model.scrub import scrub
from bridge.runtime.glossary import IDS
from bridge.runtime.log_sink import Sink
from bridge.runtime.settings import Logging

Line: TypeAlias = MutableMapping[str, object]
_Encode: TypeAlias = Callable[[Line], bytes]

DEBUG, INFO, WARNING, ERROR, SILENT = 10, 20, 30, 40, 100
_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_STDERR = 2
_LONGEST_TEXT = 500
_MOST_TRACEBACK_LINES = 80
_MAYBE_NUMBER = re.compile(r"\d[\d\s()./-]{3,}\d")


class _Output:
    """Where lines go now. Loggers of modules live longer than one set-up, so they look here each time."""

    level: int = SILENT
    encode: _Encode = staticmethod(msgspec.json.encode)
    write: Callable[[bytes], None] = staticmethod(lambda _: None)


_output = _Output()


class Logger(structlog.BoundLoggerBase):
    """Fields are keywords out of the glossary. `bind` gives a logger that adds its fields to each line."""

    def debug(self, event: str, **fields: object) -> None:
        """For whoever looks for a fault; a call that is filtered out costs next to nothing."""
        if _output.level <= DEBUG:
            self._say("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """The canonical line of a unit of work."""
        if _output.level <= INFO:
            self._say("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something was lost, late or refused, and the daemon goes on."""
        if _output.level <= WARNING:
            self._say("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Somebody must act."""
        if _output.level <= ERROR:
            self._say("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Somebody must act, on an exception nobody expected: the one being handled, with its traceback."""
        if _output.level <= ERROR:
            unexpected = fields.setdefault("error", sys.exception())
            if isinstance(unexpected, BaseException):
                fields["traceback"] = _traceback(unexpected)
            self._say("error", event, fields)

    def _say(self, level: str, event: str, fields: dict[str, object]) -> None:
        line, _ = self._process_event(level, event, fields)
        _output.write(line[0])


def get_logger(**fields: object) -> Logger:
    """A logger that adds `fields` to each line. Made once a module; follows whatever `configure` sets up."""
    return Logger(None, _CHAIN, fields)


@contextmanager
def configure(settings: Logging, *, descriptor: int = _STDERR) -> Iterator[Sink]:
    """Send lines to `descriptor` while the block lasts, those of libraries (warnings and worse) among them."""
    encode = _encode_console(descriptor) if settings.format == "console" else _encode_json
    sink = Sink(descriptor, max_buffered_lines=settings.max_buffered_lines)
    with sink, _library_lines(), _sending(_LEVELS[settings.level], encode, sink.write):
        yield sink


@contextmanager
def capture_logs() -> Iterator[list[Line]]:
    """For tests: every line of the block as it would be written, as a dict."""
    lines: list[Line] = []

    def keep(line: Line) -> bytes:
        lines.append(line)
        return b""

    with _sending(DEBUG, keep, lambda _: None):
        yield lines


@contextmanager
def _sending(level: int, encode: _Encode, write: Callable[[bytes], None]) -> Iterator[None]:
    before = _output.level, _output.encode, _output.write
    _output.level, _output.encode, _output.write = level, encode, write
    try:
        yield
    finally:
        _output.level, _output.encode, _output.write = before


class _LibraryHandler(library_logging.Handler):
    """Lines of asyncio, aiokafka, uvicorn: rare, so their price does not matter, but not left unscrubbed on stderr."""

    def emit(self, record: library_logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        fields: dict[str, object] = {"library": record.name, "detail": scrub(record.getMessage())}
        if error is not None:
            fields |= {"error": error, "traceback": _traceback(error)}
        say = _library_log.error if record.levelno >= ERROR else _library_log.warning
        say("library.warned", **fields)


@contextmanager
def _library_lines() -> Iterator[None]:
    handler = _LibraryHandler(WARNING)
    root = library_logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


_second = (0, "")


def _head(_: object, level: str, line: Line) -> Line:
    """Time, level and event go first; the time's text changes once a second but for its last digits."""
    global _second  # noqa: PLW0603  # a cache: 1 µs less a line
    now = time.time()
    whole = int(now)
    if whole != _second[0]:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    stamp = f"{_second[1]}.{int((now - whole) * 1000):03d}Z"
    return {"timestamp": stamp, "level": level, "event": line.pop("event"), **line}


def _safe(_: object, __: str, line: Line) -> Line:
    """The last look at every value before it leaves."""
    for name, value in line.items():
        if name in IDS or value is None or isinstance(value, int | float):
            continue
        if type(value) is not str:
            line[name] = _safe_value(value)
        elif len(value) > _LONGEST_TEXT or _MAYBE_NUMBER.search(value):
            line[name] = _safe_text(value) if name != "traceback" else value
    return line


def _safe_value(value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return _safe_text(value)
        case datetime():
            return value.isoformat()
        case BaseException():
            return _error(value)
        case Mapping():
            return {_safe_text(str(name)): _safe_value(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_safe_value(inner) for inner in value]
        case _:
            return f"<{type(value).__name__}>"


def _safe_text(text: str) -> str:
    return scrub(text, longest=_LONGEST_TEXT)


def _error(error: BaseException) -> str:
    """Type and message; of a group those of its members."""
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__}({', '.join(map(_error, error.exceptions))})"
    message = scrub(str(error))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _traceback(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()
    kept = lines if len(lines) <= _MOST_TRACEBACK_LINES else ["…", *lines[-_MOST_TRACEBACK_LINES:]]
    return "\n".join(" " * (len(line) - len(line.lstrip())) + scrub(line) for line in kept)


def _encode_line(_: object, __: str, line: Line) -> bytes:
    return _output.encode(line)


_encode_json = msgspec.json.Encoder().encode


def _encode_console(descriptor: int) -> _Encode:
    render = ConsoleRenderer(colors=os.isatty(descriptor))
    return lambda line: render(None, "", line).encode()


_CHAIN = (_head, _safe, _encode_line)
_library_log = get_logger()
