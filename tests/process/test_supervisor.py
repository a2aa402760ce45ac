"""The supervisor in a process of its own, ended by real signals: what it says at the end is its exit code.

The program under test opens two parts, spawns a task and names a drain; a scenario makes one of them misbehave.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROGRAM = """
import sys
from contextlib import asynccontextmanager

import anyio

from bridge.model.errors import Broken, Misconfigured
from bridge.runtime.clock import SystemClock
from bridge.runtime.logging import configure
from bridge.runtime.settings import Logging
from bridge.runtime.supervisor import Supervisor

scenario, loop = sys.argv[1], sys.argv[2]


def say(*words):
    print(*words, flush=True)


@asynccontextmanager
async def part(name):
    if name == scenario.removesuffix(" opens slowly"):
        say("opening", name)
        await anyio.sleep_forever()
    say("opened", name)
    try:
        async with anyio.create_task_group() as inner:
            if scenario == f"{name} dies":
                inner.start_soon(die)
            yield name
            if scenario == f"closing {name} hangs":
                await anyio.sleep_forever()
            inner.cancel_scope.cancel()
    finally:
        say("closed", name)


async def die():
    await anyio.sleep(0.05)
    raise ValueError("call to +4930123456789 failed")


async def work():
    say("ready")
    try:
        if scenario.startswith("task raises"):
            await die()
        if scenario == "task is broken":
            raise Broken("an invariant")
        if scenario == "task returns":
            return
        await anyio.sleep_forever()
    finally:
        say("task over")


async def drain():
    say("draining")
    if scenario.endswith(("drain hangs", "drain waits")):
        await anyio.sleep_forever()
    if scenario == "drain raises":
        raise OSError("no")
    say("drained")


async def assemble():
    await supervisor.open("kafka", part("kafka"))
    if scenario == "misconfigured":
        raise Misconfigured("file", "path", found="x", allowed="y")
    await supervisor.open("index", part("index"))
    supervisor.spawn("work", work)
    supervisor.on_soft_stop("work", drain)
    supervisor.on_soft_stop("rest", after)


async def after():
    say("after")


async def main():
    global supervisor
    supervisor = Supervisor(SystemClock(), shutdown_seconds=0.5 if "hangs" in scenario else 20)
    return await supervisor.run(assemble)


with configure(Logging()):
    code = anyio.run(main, backend_options={"use_uvloop": loop == "uvloop"})
sys.exit(code)
"""

CLEAN = ["opened kafka", "opened index", "ready", "draining", "drained", "after", "task over"]
CLEAN += ["closed index", "closed kafka"]


class Child:
    """The process under test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._heard: list[str] = []

    def wait_for(self, line: str) -> None:
        """Read until the process has said this line."""
        assert self._process.stdout is not None
        for said in self._process.stdout:
            self._heard.append(said.strip())
            if self._heard[-1] == line:
                return
        pytest.fail(f"the process ended without saying {line!r}: {self.end()}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, list[str], list[dict[str, object]]]:
        """Exit code, all that it said, and its log."""
        said, log = self._process.communicate(timeout=30)
        return self._process.returncode, self._heard + said.split("\n")[:-1], [json.loads(x) for x in log.splitlines()]


@contextmanager
def supervised(scenario: str, *, loop: str = "uvloop") -> Iterator[Child]:
    """Run the program in a scenario."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, scenario, loop], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield Child(process)
        finally:
            process.kill()


def line(log: list[dict[str, object]], event: str) -> dict[str, object]:
    """The one line of this event."""
    [found] = [entry for entry in log if entry["event"] == event]
    return found


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_softly(number: signal.Signals, loop: str) -> None:
    """One signal: drains in their order, then tasks and parts in the reverse of theirs, exit code 0."""
    with supervised("well behaved", loop=loop) as child:
        child.wait_for("ready")
        child.signal(number)
        code, said, log = child.end()

    assert (code, said) == (0, CLEAN)
    assert [entry["event"] for entry in log] == ["process.started", "process.stopping", "process.stopped"]
    assert line(log, "process.stopping")["reason"] == number.name


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_second_signal_is_immediate(loop: str) -> None:
    """A second signal cancels what the soft stop waits for; parts are still closed, and the exit code says the signal."""
    with supervised("drain waits", loop=loop) as child:
        child.wait_for("ready")
        child.signal(signal.SIGTERM)
        child.wait_for("draining")
        child.signal(signal.SIGINT)
        code, said, log = child.end()

    assert code == 128 + signal.SIGINT
    assert said[-2:] == ["closed index", "closed kafka"]
    assert "after" not in said
    assert line(log, "process.cut_off")["parts"] == ["kafka", "index", "work", "drain of work"]


@pytest.mark.parametrize(
    ("scenario", "still_open"),
    [
        ("drain hangs", ["kafka", "index", "work", "drain of work"]),
        ("closing index hangs", ["kafka", "index"]),
    ],
)
def test_deadline_of_the_soft_stop(scenario: str, still_open: list[str]) -> None:
    """A soft stop that takes too long is cut off, says what was still open, and does not exit with 0."""
    with supervised(scenario) as child:
        child.wait_for("ready")
        child.signal(signal.SIGTERM)
        code, said, log = child.end()

    assert (code, said[-2:]) == (3, ["closed index", "closed kafka"])
    assert line(log, "process.cut_off")["parts"] == still_open


@pytest.mark.parametrize(("scenario", "error"), [("task raises", "ValueError"), ("task returns", "_EndedEarly")])
def test_unexpected_end_of_a_task(scenario: str, error: str) -> None:
    """A task that ends by itself stops the process softly, with exit code 1 and one line that says which and why."""
    with supervised(scenario) as child:
        code, said, log = child.end()

    failed = line(log, "part.failed")
    assert (code, said) == (1, [*CLEAN[:3], "task over", *CLEAN[3:6], *CLEAN[7:]])
    assert (failed["part"], str(failed["error"]).split(":")[0]) == ("work", error)
    assert "+4930123456789" not in json.dumps(log)


def test_broken_invariant_is_immediate() -> None:
    """A broken invariant does not go on, not even to come to rest; parts are still closed."""
    with supervised("task is broken") as child:
        code, said, _ = child.end()

    assert (code, "draining" in said, said[-2:]) == (1, False, ["closed index", "closed kafka"])


@pytest.mark.parametrize("name", ["kafka", "index"])
def test_unexpected_end_inside_a_part(name: str) -> None:
    """A part whose own task fails ends the process under its name; the others are closed."""
    with supervised(f"{name} dies") as child:
        code, said, log = child.end()

    assert (code, said[-2:]) == (1, ["closed index", "closed kafka"])
    assert line(log, "part.failed")["part"] == name


def test_misconfigured_assembly() -> None:
    """Bad configuration found while opening closes what was opened; its exit code is its own."""
    with supervised("misconfigured") as child:
        code, said, log = child.end()

    assert (code, said) == (2, ["opened kafka", "closed kafka"])
    assert line(log, "part.failed")["part"] == "assembly"


def test_failing_drain_does_not_stop_the_others() -> None:
    """A drain that fails is noted, the next ones run, and the exit code is 1."""
    with supervised("drain raises") as child:
        child.wait_for("ready")
        child.signal(signal.SIGTERM)
        code, said, log = child.end()

    assert (code, line(log, "part.failed")["part"]) == (1, "drain of work")
    assert said[3:] == ["draining", *CLEAN[5:]]


def test_signal_while_opening() -> None:
    """A signal while a part is still opening closes what was opened and ends with 0: nothing had begun."""
    with supervised("index opens slowly") as child:
        child.wait_for("opening index")
        child.signal(signal.SIGTERM)
        code, said, _ = child.end()

    assert (code, said) == (0, ["opened kafka", "opening index", "closed kafka"])


def test_signal_while_stopping_after_a_failure() -> None:
    """The first signal during the soft stop after a failure changes nothing: here the deadline ends it, not the signal."""
    with supervised("task raises, drain hangs") as child:
        child.wait_for("draining")
        child.signal(signal.SIGTERM)
        code, said, log = child.end()

    assert (code, said[-2:]) == (1, ["closed index", "closed kafka"])
    assert line(log, "process.cut_off")["reason"] == "not at rest after 0.5 s"
