"""Load the configuration: one TOML file, strict, read once at the start and passed down as values.

Whatever is wrong with it is a `Misconfigured` that names file, path, what was found and what is allowed. The file is
the only source: no environment variable overrides a setting and `${NAME}` is not expanded; only secrets come from
outside, by `{ env = "NAME" }` or `{ file = "PATH" }`, and what `effective` prints holds these sources, never values.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from bridge.model.errors import Misconfigured
from bridge.model.validation import convert_toml, names_a_secret
from bridge.model.words import JsonObject
from bridge.runtime.settings import (
    Actions,
    Commands,
    Events,
    Index,
    Ingress,
    Logging,
    Management,
    Process,
    Topics,
    Watchdog,
)

_PLACE = re.compile(r"^(?P<what>.*) \(at (?P<place>line \d+, column \d+|end of document)\)$", re.DOTALL)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_MASK = "***"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Each part gets its own struct, never this."""

    kafka: JsonObject = {}
    connections: dict[str, JsonObject] = {}
    topics: Topics = Topics()
    commands: Commands = Commands()
    events: Events = Events()
    ingress: Ingress = Ingress()
    actions: Actions = Actions()
    watchdog: Watchdog = Watchdog()
    index: Index = Index()
    management: Management = Management()
    logging: Logging = Logging()
    process: Process = Process()

    def __post_init__(self) -> None:
        drains = (self.ingress.drain_seconds, self.commands.drain_seconds)
        if max(drains) > self.process.shutdown_seconds:
            raise ValueError("process.shutdown_seconds of at least the longest drain_seconds")


def load(path: Path) -> Config:
    """Read and check the file. `[kafka]` and `[connections.NAME]` are taken as they are; their owners decode them.

    Raises:
        Misconfigured: the file cannot be read, is no TOML, or says something that is not allowed.
    """
    return convert_toml(_read(path), Config, str(path))


def effective(config: Config) -> str:
    """Every setting in force as JSON, defaults among them, derived from the structs: there is no second list."""
    settings = msgspec.to_builtins(config)
    for name in ("kafka", "connections"):
        settings[name] = _masked(settings[name], is_secret=False)
    return msgspec.json.format(msgspec.json.encode(settings), indent=2).decode()


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise Misconfigured(str(path), "(file)", found=str(error.strerror), allowed="a readable file") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise Misconfigured(str(path), f"line {line}", found="bytes that are not UTF-8", allowed="UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        match = _PLACE.match(str(error))
        what, place = (match["what"], match["place"]) if match else (str(error), "(file)")
        raise Misconfigured(str(path), place, found=f"no TOML: {what}", allowed="TOML 1.0") from error


def _masked(value: object, *, is_secret: bool) -> object:
    """What nobody has decoded yet may hold a secret in the wrong place: mask by name, and in URLs."""
    match value:
        case dict() if value.keys() in ({"env"}, {"file"}) and all(isinstance(name, str) for name in value.values()):
            return value
        case dict():
            return {key: _masked(inner, is_secret=is_secret or names_a_secret(key)) for key, inner in value.items()}
        case list():
            return [_masked(inner, is_secret=is_secret) for inner in value]
        case str():
            return _MASK if is_secret else _USER_INFO.sub(_MASK, value)
        case _:
            return _MASK if is_secret and not isinstance(value, bool) else value
