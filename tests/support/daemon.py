"""The daemon as a real process: `python -m bridge run CONFIG`, its ports, its log, its signals, its exit code.

It promises that no daemon outlives its context or this process, that readiness and ends are waited for with a deadline
and polled, and that a test that fails is told the end of the log. Several daemons on one prefix are several replicas:
`write_config` gives each call ports of its own. Brokers and simulators are brought by the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import anyio

from bridge.demo.broker import LOOPBACK, free_ports

ROOT = Path(__file__).parents[2]
WEBHOOK_SECRET = "hush"
SECRETS = {
    "SIPGATE_TOKEN": "sg-token",
    "SIPGATE_WEBHOOK_SECRET": WEBHOOK_SECRET,
    "REPLY_TOKEN_SECRET": "one secret of all replicas",
}

READY_SECONDS = 60.0
END_SECONDS = 45.0
REQUEST_SECONDS = 20.0
POLL_SECONDS = 0.02
TAIL_LINES = 60

# A shell beside the daemon on a pipe that only this process holds: when this process is gone, so is the daemon.
_LEASH = 'read -r _; kill -s KILL "$1"'

Table: TypeAlias = Mapping[str, Any]
Line: TypeAlias = dict[str, Any]


# -- configuration ----------------------------------------------------------------------------------------------------


def write_config(path: Path, *, bootstrap: str, prefix: str, simulator_url: str, **changes: Table) -> Path:
    """A configuration for one replica, with ports of its own. `changes` go into its tables; None removes a setting.

    A connection that `changes` name has what it does not say itself from the connection `demo`.
    """
    webhooks, management = free_ports(2)
    settings: dict[str, Any] = {
        "kafka": {
            "bootstrap_servers": bootstrap.split(","),
            "fetch_max_wait_seconds": 0.02,
            "start_timeout_seconds": 30.0,
            "session_timeout_seconds": 6.0,
            "heartbeat_interval_seconds": 1.0,
        },
        "topics": {"prefix": prefix, "create_missing": True, "replication_factor": 1, "partitions": 3},
        "commands": {
            "group_id": f"{prefix}commands",
            "commit_interval_seconds": 0.2,
            "first_backoff_seconds": 0.1,
            "longest_backoff_seconds": 1.0,
            "evidence_seconds": 0.5,
        },
        "actions": {
            "keeper_group_id": f"{prefix}keeper",
            "reply_token_secrets": [{"env": "REPLY_TOKEN_SECRET"}],
            "result_after_seconds": 4.0,
            "late_after_seconds": 1.0,
            "parked_seconds": 4.0,
            "commit_interval_seconds": 0.2,
        },
        "ingress": {"host": LOOPBACK, "port": webhooks},
        "management": {"host": LOOPBACK, "port": management},
        "connections": {"demo": {}},
    }
    _merge(settings, changes)
    for name, connection in settings["connections"].items():
        settings["connections"][name] = {**_connection(simulator_url), **connection}
    path.write_text("".join(f"{json.dumps(name)} = {_toml(table)}\n" for name, table in settings.items()))
    return path


def _connection(simulator_url: str) -> dict[str, Any]:
    return {
        "provider": "sipgate",
        "base_url": simulator_url,
        "token": {"env": "SIPGATE_TOKEN"},
        "flow_id": "demo-flow",
        "billing_device": "e2",
        "webhook_secrets": [{"env": "SIPGATE_WEBHOOK_SECRET"}],
    }


def _merge(settings: dict[str, Any], changes: Table) -> None:
    for name, value in changes.items():
        if value is None:
            settings.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(settings.get(name), dict):
            _merge(settings[name], value)
        else:
            settings[name] = value


def _toml(value: object) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)


# -- the process ------------------------------------------------------------------------------------------------------


class Daemon:
    """One replica as a process. Made by `started` (not awaited) or `running` (ready)."""

    def __init__(
        self,
        config: Path,
        *,
        env: Mapping[str, str] | None = None,
        module: str = "bridge",
    ) -> None:
        """Start it; `env` is added to this process's environment, for secrets and crash points.

        `module` is what is run in place of the daemon's own: one that changes something first, and then is the daemon.
        """
        settings = tomllib.loads(config.read_text())
        self.config = config
        self.webhook_url = f"http://{LOOPBACK}:{settings['ingress']['port']}"
        self.management_url = f"http://{LOOPBACK}:{settings['management']['port']}"
        self._log = _fresh(config.with_suffix(".log"))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, "run", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **SECRETS, **(env or {})},
            )
        self._leash = subprocess.Popen(["/bin/sh", "-c", _LEASH, "leash", str(self.pid)], stdin=subprocess.PIPE)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it lives."""
        return self._process.poll()

    # -- signals

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def terminate(self, *, seconds: float = END_SECONDS) -> int:
        """SIGTERM, and the exit code."""
        self.send(signal.SIGTERM)
        return await self.ended(seconds=seconds)

    async def ended(self, *, seconds: float = END_SECONDS) -> int:
        """The exit code, once it has ended by itself."""
        await self.until(lambda: self.exit_code is not None, "the end of the process", seconds=seconds)
        code = self.exit_code
        assert code is not None
        return code

    def kill(self) -> None:
        """SIGKILL: gone when this returns."""
        self._process.kill()
        self._process.wait()

    def suspend(self) -> None:
        """SIGSTOP: it holds everything and does nothing."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `suspend`."""
        self.send(signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever it does."""
        self.kill()
        self._leash.kill()
        self._leash.wait()
        if self._leash.stdin:
            self._leash.stdin.close()

    # -- looking

    async def ready(self, *, seconds: float = READY_SECONDS) -> None:
        """Return when /readyz says so."""
        deadline = time.monotonic() + seconds
        while not await self.is_ready():
            assert self.exit_code is None, self.explained(f"it ended with {self.exit_code} instead of being ready")
            assert time.monotonic() < deadline, self.explained(f"it was not ready within {seconds} s")
            await anyio.sleep(POLL_SECONDS)

    async def is_ready(self) -> bool:
        """What /readyz says; False where nobody answers."""
        try:
            return (await request(f"{self.management_url}/readyz")).status == 200
        except OSError:
            return False

    async def reasons(self) -> dict[str, str]:
        """What /readyz says of each part."""
        parts = (await request(f"{self.management_url}/readyz")).json["parts"]
        return {str(name): str(reason) for name, reason in parts.items()}

    async def until_reason(self, part: str, reason: str) -> None:
        """Return when /readyz gives this reason for a part."""
        deadline = time.monotonic() + READY_SECONDS
        while (found := await self._reason(part)) != reason:
            assert time.monotonic() < deadline, self.explained(f"{part} stayed {found!r} instead of {reason!r}")
            await anyio.sleep(POLL_SECONDS)

    async def _reason(self, part: str) -> str | None:
        try:
            return (await self.reasons()).get(part)
        except OSError:
            return None

    async def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by its name and labels as they stand there."""
        answer = await request(f"{self.management_url}/metrics")
        assert answer.status == 200
        lines = [line for line in answer.body.decode().splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name (without `callbridge_`) that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = (await self.metrics()).items()
        return sum(
            value
            for sample, value in samples
            if sample.split("{")[0] == f"callbridge_{name}" and all(label in sample for label in wanted)
        )

    def log_lines(self) -> list[Line]:
        """The log so far, parsed; a line that is no JSON object (a message for a person) is under `text`."""
        return [_parsed(line) for line in self._log.read_text(errors="replace").splitlines() if line.strip()]

    def lines_of(self, event: str) -> list[Line]:
        """The log lines of one event."""
        return [line for line in self.log_lines() if line.get("event") == event]

    def explained(self, what: str) -> str:
        """A message with the end of the log."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join([what, f"the end of {self._log.name} (exit code {self.exit_code}):", *lines[-TAIL_LINES:]])

    async def until(self, condition: Callable[[], bool], what: str, *, seconds: float = READY_SECONDS) -> None:
        """Return when the condition holds; it is looked at again and again."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.explained(f"waited {seconds} s for {what}")
            await anyio.sleep(POLL_SECONDS)

    async def until_metric(self, name: str, at_least: float, **labels: str) -> None:
        """Return when a metric has reached a value."""
        deadline = time.monotonic() + READY_SECONDS
        while (value := await self.metric(name, **labels)) < at_least:
            assert time.monotonic() < deadline, self.explained(f"{name}{labels} stayed at {value}, below {at_least}")
            await anyio.sleep(POLL_SECONDS)


@contextlib.contextmanager
def started(config: Path, *, env: Mapping[str, str] | None = None) -> Iterator[Daemon]:
    """A daemon that was started, whatever becomes of it; a failing body is told the end of its log."""
    daemon = Daemon(config, env=env)
    try:
        yield daemon
    except BaseException as error:
        error.add_note(daemon.explained("the daemon at that time:"))
        raise
    finally:
        daemon.close()


@contextlib.asynccontextmanager
async def running(config: Path, *, env: Mapping[str, str] | None = None) -> AsyncIterator[Daemon]:
    """A daemon that is ready."""
    with started(config, env=env) as daemon:
        await daemon.ready()
        yield daemon


def run_cli(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command of `callbridge`, to its end."""
    command = [sys.executable, "-m", "bridge", *arguments]
    whole = {**os.environ, **SECRETS, **(env or {})}
    return subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, text=True, timeout=60, check=False)


def assert_masked(lines: Iterable[Line], numbers: Iterable[str]) -> None:
    """No line holds one of these phone numbers in clear, with or without `+` and country code."""
    wanted = {digits[2:]: digits for digits in (re.sub(r"\D", "", number) for number in numbers)}
    text = [json.dumps(line, ensure_ascii=False) for line in lines]
    for line in text:
        bare = re.sub(r"[\s()/-]", "", line)
        for run in re.findall(r"\d{7,}", bare):
            leaked = next((digits for tail, digits in wanted.items() if tail in run), None)
            assert leaked is None, f"the number +{leaked} stands in a log line: {line}"


def _fresh(log: Path) -> Path:
    """A name for this run's log beside those of earlier runs."""
    runs = len(list(log.parent.glob(f"{log.stem}*.log")))
    return log.with_stem(f"{log.stem}-{runs + 1}")


def _parsed(line: str) -> Line:
    try:
        value = json.loads(line)
    except ValueError:
        return {"text": line}
    return value if isinstance(value, dict) else {"text": line}


# -- a raw HTTP client ------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def request(
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    seconds: float = REQUEST_SECONDS,
) -> Answer:
    """One request on a connection of its own.

    Raises:
        OSError: nobody listens there, the connection ended early, or no answer came in time.
    """
    host, _, path = url.removeprefix("http://").partition("/")
    lines = [f"{method} /{path} HTTP/1.1", f"host: {host}", "connection: close", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(*host.split(":"))
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            answer = await reader.read()
        finally:
            writer.transport.abort()
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        raise ConnectionError(f"no answer from {url}")
    status, *pairs = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (pair.partition(": ") for pair in pairs)}
    return Answer(int(status.split()[1]), fields, rest, time.monotonic() - began)
