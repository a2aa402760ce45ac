"""The processes of the demo: simulated provider, daemon, sample agent; started, waited for, ended.

It promises that each is ready when its `start_…` returns, that a start that fails says why with the end of its log, and
that none outlives this process. What they are configured with comes from `quickstart`, what they do is their own matter.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bridge.demo.broker import LeashedProcess, tail
from bridge.demo.plays import Play
from bridge.demo.quickstart import QuickStart

START_SECONDS = 30.0
END_SECONDS = 40.0  # above the daemon's own `process.shutdown_seconds`
POLL_SECONDS = 0.05
REQUEST_SECONDS = 5.0
LOG_LINES, LOG_COLUMNS = 8, 240
OK = 200


class DemoError(Exception):
    """Something of the demo did not happen; the message says what, and what is known about why."""


class Child(LeashedProcess):
    """A leashed Python process of ours with its log. Its output is line by line in `log`."""

    def __init__(self, name: str, arguments: Sequence[str], *, directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("wb") as output:
            super().__init__([sys.executable, "-m", *arguments], log=output, directory=directory, env=env)

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it lives."""
        return self._child.returncode if not self.is_alive() else None

    def explained(self, what: str) -> DemoError:
        """The error to raise about it, with the end of its log."""
        lines = [line[:LOG_COLUMNS] for line in tail(self.log).splitlines()[-LOG_LINES:]]
        return DemoError("\n  ".join([f"{self.name}: {what}; the end of its log:", *(lines or ["(nothing)"])]))

    def wait(self, is_ready: Callable[[], bool], what: str) -> None:
        """Return when it is ready.

        Raises:
            DemoError: it ended, or was not ready in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while not is_ready():
            if not self.is_alive():
                raise self.explained(f"ended with code {self.exit_code} instead of {what}")
            if time.monotonic() > deadline:
                raise self.explained(f"not {what} within {START_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def says(self, text: str) -> bool:
        """Whether its output holds this."""
        return text in self.log.read_text(encoding="utf-8", errors="replace")


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody who is up, beside the broker."""

    settings: QuickStart
    play: Play
    simulator: Child
    daemon: Child
    agent: Child


class Cast:
    """Starts everybody in one directory, to be ended with `running`; secrets are made up here, for one demo."""

    def __init__(self, settings: QuickStart, directory: Path, running: contextlib.ExitStack) -> None:
        self._settings = settings
        self._directory = directory
        self._running = running
        made_up = {name: secrets.token_hex(16) for name in (settings.token_name, settings.webhook_secret_name)}
        self._env = os.environ | made_up

    def start_simulator(self, play: Play, *, script: Path, speed: float) -> Child:
        """The provider's side: takes orders to dial, plays the callee, sends webhooks."""
        settings = self._settings
        host, port = settings.simulator
        arguments = [f"bridge.demo.simulators.{play.simulator}", "--host", host, "--port", str(port), "--timeline"]
        arguments += ["--token-env", settings.token_name, "--webhook-secret-env", settings.webhook_secret_name]
        if play.has_webhook_url:
            arguments += ["--webhook-url", settings.webhook_url]
        for argument, setting in play.arguments.items():
            arguments += [argument, str(settings.connection[setting])]
        child = self._start("simulator", [*arguments, "--script", str(script), "--speed", str(speed)])
        child.wait(lambda: child.says("listening on "), "listening")
        return child

    def start_daemon(self) -> Child:
        """`callbridge run`: ready when /readyz says so."""
        child = self._start("daemon", ["bridge", "run", str(self._settings.file)])
        child.wait(lambda: get(self._settings.management, "/readyz") is not None, "ready")
        return child

    def start_agent(self) -> Child:
        """The sample agent; it is ready when its consumer group has given it its partitions, so not yet on return."""
        return self._start("agent", ["bridge.demo.agent", "--bootstrap", self._settings.bootstrap])

    def _start(self, name: str, arguments: Sequence[str]) -> Child:
        child = Child(name, arguments, directory=self._directory, env=self._env)
        self._running.callback(child.end, END_SECONDS)
        return child


def get(address: tuple[str, int], path: str) -> bytes | None:
    """The body of a page, or None where there is no 200 in time."""
    connection = http.client.HTTPConnection(*address, timeout=REQUEST_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.read() if answer.status == OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
