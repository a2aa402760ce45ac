"""What a benchmark stands on: a cluster, a folder, processes of its own, and daemons with the product's defaults.

It promises that no process outlives its block or this one. The harness's configuration is tuned for tests that wait; here
it is taken back, so that what is measured is what an operator gets who sets nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio

from bridge.demo.broker import LeashedProcess, tail
from tests.support.daemon import POLL_SECONDS, ROOT, Daemon, write_config

CHILDREN = "tests.bench.children"
READY = "ready"
START_SECONDS = 60.0
END_SECONDS = 5.0
NOWHERE = "http://127.0.0.1:9"
"""For a daemon that is asked to dial nothing."""

Json: TypeAlias = dict[str, Any]

_UNTUNED: Mapping[str, tuple[str, ...]] = {
    "kafka": (
        "fetch_max_wait_seconds",
        "start_timeout_seconds",
        "session_timeout_seconds",
        "heartbeat_interval_seconds",
    ),
    "commands": ("commit_interval_seconds", "first_backoff_seconds", "longest_backoff_seconds", "evidence_seconds"),
    "actions": ("commit_interval_seconds", "result_after_seconds"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where and how much. A quick one shows that everything works; its figures are nothing."""

    bootstrap: str
    folder: Path
    rounds: int
    seconds: float
    entries: int
    quick: bool

    def sized(self, normal: int, quick: int) -> int:
        """A size that depends on it."""
        return quick if self.quick else normal


def new_prefix() -> str:
    """Topics and groups of one benchmark."""
    return f"bench-{secrets.token_hex(4)}-"


def configured(setting: Setting, prefix: str, name: str, *, base_url: str = NOWHERE, **changes: Any) -> Path:
    """The configuration of one replica: the product's defaults, but for `changes`."""
    merged = {table: {**dict.fromkeys(keys), **changes.pop(table, {})} for table, keys in _UNTUNED.items()}
    return write_config(
        setting.folder / f"{prefix}{name}.toml",
        bootstrap=setting.bootstrap,
        prefix=prefix,
        simulator_url=base_url,
        **merged,
        **changes,
    )


@contextlib.asynccontextmanager
async def replica(config: Path, *, module: str = "bridge") -> AsyncIterator[Daemon]:
    """A daemon that is ready; SIGKILL at the end, for nothing that is measured comes after that."""
    daemon = Daemon(config, module=module)
    try:
        await daemon.ready()
        yield daemon
    finally:
        daemon.close()


def webhook_port(daemon: Daemon) -> int:
    """Where it takes webhooks."""
    return int(daemon.webhook_url.rpartition(":")[2])


async def until(condition: Callable[[], bool], what: str, *, seconds: float = START_SECONDS) -> None:
    """Return when the condition holds; it is looked at again and again."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        await anyio.sleep(POLL_SECONDS)


async def owning(daemon: Daemon, lanes: int, *, seconds: float = START_SECONDS) -> None:
    """Return when it owns exactly so many partitions, ready to work on them."""
    deadline = time.monotonic() + seconds
    while await daemon.metric("lanes") != lanes:
        if time.monotonic() > deadline:
            raise TimeoutError(daemon.explained(f"it did not own {lanes} partitions within {seconds:g} s"))
        await anyio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def child(setting: Setting, name: str, **arguments: object) -> AsyncIterator[LeashedProcess]:
    """A process of `children` that goes on until it is ended; it is ready when it says so."""
    path = setting.folder / f"{name}-{secrets.token_hex(4)}.log"
    process = _spawn(setting, path, name, arguments)
    try:
        deadline = time.monotonic() + START_SECONDS
        while READY not in tail(path):
            if not process.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not come up:\n{tail(path)}")
            await anyio.sleep(POLL_SECONDS)
        yield process
    finally:
        process.end(END_SECONDS)


async def asked(name: str, **arguments: object) -> Json:
    """What a process of `children` prints, as it ends by itself."""
    command = [sys.executable, "-m", CHILDREN, name, json.dumps(arguments)]
    done = await anyio.run_process(command, cwd=ROOT, stderr=None)
    answer = json.loads(done.stdout)
    if not isinstance(answer, dict):
        raise TypeError(f"{name} printed {answer!r}")
    return answer


def _spawn(setting: Setting, path: Path, name: str, arguments: Mapping[str, object]) -> LeashedProcess:
    with path.open("wb") as log:
        return LeashedProcess(
            [sys.executable, "-m", CHILDREN, name, json.dumps(arguments)],
            log=log,
            directory=setting.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
