"""`callbridge demo` as a person runs it: a process of its own, with everything it starts.

One call end to end, the demo that is kept with each line it says to type next, a provider that refuses, and the demo
killed: whatever happens, the exit code tells the truth and no process and no directory is left behind.
"""

import io
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from bridge.demo import quickstart
from bridge.demo.broker import LOOPBACK
from bridge.demo.plays import PLAYS
from bridge.demo.timeline import Line, Step, Timeline
from bridge.providers.catalogue import KINDS

CALL_SECONDS = 90.0
END_SECONDS = 45.0
STEP_SECONDS = 20.0
POLL_SECONDS = 0.1
SHIPPED = Path(quickstart.__file__).parent / quickstart.FILE
KEPT = "Everything goes on until Ctrl-C"
LINE = re.compile(r"^ {2} *[+-]\d+\.\d{3} s {2}[\w ]{7} {2}\S", re.MULTILINE)
NUMBERS = ("15790000687", "15790000688", "15790000691", "15790000700")

pytestmark = pytest.mark.timeout(240)


class Demo:
    """The demo under test; its output grows in a file."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def text(self) -> str:
        """What it has said so far."""
        return self._output.read_text()

    @property
    def timeline(self) -> str:
        """The lines of its timeline."""
        return "\n".join(line for line in self.text.splitlines() if LINE.match(line))

    @property
    def by_time(self) -> str:
        """The same in the order of the times shown: on a busy machine a line may come later than it is waited for."""
        return "\n".join(sorted(self.timeline.splitlines(), key=lambda line: float(line.split()[0])))

    def until(self, holds: Callable[[str], object], *, seconds: float) -> None:
        """Return when its output is as wanted; fail when it ends before, or in time."""
        deadline = time.monotonic() + seconds
        while not holds(self.text):
            assert self.process.poll() is None, f"it ended:\n{self.text}"
            assert time.monotonic() < deadline, f"not within {seconds} s:\n{self.text}"
            time.sleep(POLL_SECONDS)

    def directory(self) -> Path:
        """Where it keeps its configuration and logs."""
        found = re.search(r"callbridge run (\S+)/quickstart\.toml", self.text)
        assert found, self.text
        return Path(found[1])

    def ends(self) -> int:
        """Its exit code."""
        return self.process.wait(END_SECONDS)


@contextmanager
def running(output: Path, *arguments: str) -> Iterator[Demo]:
    """`callbridge demo` under way; killed at the end if it has not ended."""
    command = arguments or ("-m", "bridge", "demo")
    with output.open("wb") as log, subprocess.Popen([sys.executable, *command], stdout=log, stderr=log) as process:
        try:
            yield Demo(process, output)
        finally:
            process.kill()


def test_one_call_end_to_end(tmp_path: Path) -> None:
    """A person sees every station of one call in order, the table agrees, and nothing is left."""
    with running(tmp_path / "output") as demo:
        code = demo.process.wait(CALL_SECONDS)

    assert code == 0, demo.text
    stations = (
        r"command +call\.place demo-1: call \+491\*+87",
        r"ledger +claim counted: demo-1/sending/1 at offset \d+",
        r"dial +provider dials \+491\*+87, answers 201",
        r"result +call\.initiated demo-1: attempt 1",
        r"webhook +session_start",
        r"event +session\.started .*command demo-1.*waits",
        r'action +speak "Hello',
        r"answer +session_start: 200 in \d+ ms; speak",
        r'event +user\.spoke "Yes, Tuesday at ten',
        r"action +speak .*, hangup",
        r"phone +call over: ended by agent",
    )
    assert re.search("(?s)" + ".*".join(stations), demo.by_time), demo.text
    assert re.search(r"dials of demo-1 .* 1   ok, exactly 1", demo.text)
    assert re.search(r"questions answered .* (\d+) of \1   ok", demo.text)
    assert re.search(r"exit code after SIGTERM +0   ok", demo.text)
    assert "NOT ok" not in demo.text
    assert "in memory" in demo.text
    assert "\033" not in demo.text
    assert not any(number in demo.text for number in NUMBERS)
    assert not demo.directory().exists()


STATIONS = {
    "cognigy": (
        r"event +call\.answered \(outbound, command demo-1\)",
        r"event +call\.amd machine",
        r"action +hangup",
        r"phone +call over: ended by agent",
        r"event +call\.ended \(completed\)",
    ),
    "jambonz": (
        r"webhook +call_hook",
        r"event +session\.started .*command demo-1.*waits",
        r"answer +call_hook: 200 in \d+ ms; gather, redirect",
        r'event +user\.spoke "Yes, Tuesday at ten',
        r"action +speak .*, hangup",
        r"phone +call over: ended by agent",
        r"event +call\.ended \(completed\)",
    ),
    "hms_sovereign": (
        r"event +call\.answered \(outbound, command demo-1\)",
        r'action +inject_context "The appointment',
        r"event +tool\.requested find_slot; waits",
        r"answer +tool-calls: 200 in \d+ ms; tool_result",
        r"event +call\.report",
    ),
    "twilio": (
        r"event +session\.started .*command demo-1.*waits",
        r"answer +call: 200 in \d+ ms; Gather, Redirect",
        r'event +user\.spoke "Yes, Tuesday at ten',
        r"action +speak .*, hangup",
        r"phone +call over: ended by agent",
        r"event +call\.ended \(completed\)",
    ),
    "talkifai": (
        r"phone +somebody picks up",
        r"event +call\.answered \(outbound, command demo-1\)",
        r"event +call\.ended \(completed\)",
        r"event +call\.report",
    ),
}
"""By provider: what its demo has to show, in order, behind the dial."""


def test_every_provider_has_a_demo() -> None:
    """Each kind of the catalogue is played, and each play is tried here."""
    shown = {quickstart.connection_of(name)["provider"] for name in PLAYS}
    assert shown == set(KINDS)
    assert set(PLAYS) == {quickstart.SHIPPED, *STATIONS}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Demo]]:
    """A demo of each provider, side by side: they mostly wait."""
    folder = tmp_path_factory.mktemp("played")
    with ExitStack() as demos:
        yield {
            name: demos.enter_context(running(folder / name, "-m", "bridge", "demo", "--provider", name))
            for name in STATIONS
        }


@pytest.mark.parametrize("provider", STATIONS)
def test_each_provider(played: dict[str, Demo], provider: str) -> None:
    """What is special about it is shown, all of it happened, and every event carried the command's metadata."""
    demo = played[provider]
    code = demo.process.wait(CALL_SECONDS)

    assert code == 0, demo.text
    before = (r"ledger +claim counted: demo-1", r"dial +provider dials \+491\*+\d\d, answers")
    assert re.search("(?s)" + ".*".join((*before, *STATIONS[provider])), demo.by_time), demo.text
    assert re.search(r"dials of demo-1 .* 1   ok, exactly 1", demo.text)
    assert re.search(r"events with the command's metadata +(\d+) of \1   ok", demo.text)
    assert "NOT ok" not in demo.text
    assert not any(number in demo.text for number in NUMBERS)
    assert not demo.directory().exists()


def test_kept_demo_takes_the_lines_it_prints(tmp_path: Path) -> None:
    """Each printed line does in a shell what stands above it; Ctrl-C ends everything with exit code 0."""
    with running(tmp_path / "output", "-m", "bridge", "demo", "--keep") as demo:
        demo.until(lambda text: "logs lie beside it" in text, seconds=CALL_SECONDS)
        steps = _printed_steps(demo.text)

        _shell(steps, "one more call")
        demo.until(
            lambda text: re.search(r"(?s)call\.place demo-2.*user\.dtmf 1.*call over", text), seconds=STEP_SECONDS
        )
        _shell(steps, "the same command again")
        demo.until(lambda text: text.count("call.initiated demo-2") == 2, seconds=STEP_SECONDS)
        assert demo.text.count("claim counted: demo-2") == 1
        results = [line.split(" ", 1) for line in _shell(steps, "all results").splitlines()]
        assert sorted(key for key, _ in results) == ["demo-1", "demo-2", "demo-2"]
        assert {json.loads(value)["type"] for _, value in results} == {"call.initiated"}

        watched, mine = tmp_path / "watched", tmp_path / "mine"
        with _in_background(steps, "what happens", watched), _in_background(steps, "be the agent", mine):
            _until_they_listen(steps, watched, mine)
            _shell(steps, "a call that asks for you")
            demo.until(lambda text: 'agent says "Hello from a shell."' in text, seconds=STEP_SECONDS)
            demo.until(lambda _: "assistant.finished" in watched.read_text(), seconds=STEP_SECONDS)
        assert '"ready":true' in _shell(steps, "is it ready")

        mine_alone = demo.text.partition("call.place demo-3")[2]
        assert re.search(r"(?s)session\.started .*delivered by answer", mine_alone), demo.text
        family = _descendants(demo.process.pid)
        demo.process.send_signal(signal.SIGINT)
        code = demo.ends()

    assert code == 0, demo.text
    assert re.search(r"exit code after SIGTERM +0   ok", demo.text)
    assert len(family) >= 8, "broker, simulator, daemon, agent, and a leash for each"
    _assert_gone(family)
    assert not demo.directory().exists()


def test_refused_call_fails_with_the_reason(tmp_path: Path) -> None:
    """A provider that refuses is not a demo that works: exit code 1, and the provider's words."""
    script = tmp_path / "refusing.toml"
    script.write_text(
        '[[dial_faults]]\nfault = { kind = "answer", status = 403, body = "{\\"message\\":\\"no such luck\\"}" }\n'
    )
    run = f"import pathlib, sys, bridge.demo.main as m; sys.exit(m.demo(keep=False, script=pathlib.Path({str(script)!r})))"
    with running(tmp_path / "output", "-c", run) as demo:
        code = demo.process.wait(CALL_SECONDS)

    assert code == 1, demo.text
    assert re.search(r"dial +provider dials .*, answers 403", demo.timeline)
    assert "demo failed: demo-1 ended as call.refused: unauthorized (no such luck)" in demo.text
    assert not demo.directory().exists()


def test_nobody_answers_fails_with_the_reason(tmp_path: Path) -> None:
    """A dial that ends with the provider's own "nobody was there" is shown as what it is, with exit code 1."""
    script = tmp_path / "nobody.toml"
    script.write_text('[[callees]]\nnumber = "*"\nanswers = false\n')
    call = f"m.demo(keep=False, provider='talkifai', script=pathlib.Path({str(script)!r}))"
    run = f"import pathlib, sys, bridge.demo.main as m; sys.exit({call})"
    with running(tmp_path / "output", "-c", run) as demo:
        code = demo.process.wait(CALL_SECONDS)

    assert code == 1, demo.text
    assert "demo failed: demo-1 ended as call.refused: no_answer" in demo.text


@pytest.mark.parametrize("provider", ["jambonz", "cognigy"])
def test_kept_demo_is_steered_by_hand(tmp_path: Path, provider: str) -> None:
    """The printed line answers the call that asks, or hangs it up unasked where nothing waits."""
    with running(tmp_path / "output", "-m", "bridge", "demo", "--keep", "--provider", provider) as demo:
        demo.until(lambda text: "logs lie beside it" in text, seconds=CALL_SECONDS)
        steps = _printed_steps(demo.text)
        mine = tmp_path / "mine"
        with _in_background(steps, "be the agent", mine):
            _until_they_listen(steps, mine)
            _shell(steps, "a call that asks for you")
            demo.until(lambda text: re.search(r"(?s)demo-3.*call over: ended by agent", text), seconds=STEP_SECONDS)
        demo.process.send_signal(signal.SIGINT)
        assert demo.ends() == 0, demo.text


def test_killed_demo_leaves_nobody_behind(tmp_path: Path) -> None:
    """SIGKILL while everybody is up: nothing can be done in order any more, and still nothing stays."""
    with running(tmp_path / "output") as demo:
        demo.until(lambda text: "waiting for the consumer groups" in text, seconds=CALL_SECONDS)
        family = _descendants(demo.process.pid)
        demo.process.kill()
        demo.ends()

    assert len(family) >= 8
    _assert_gone(family)
    assert not demo.directory().exists()


def test_ports_that_are_taken_are_replaced(tmp_path: Path) -> None:
    """The written configuration is the shipped one but for its ports, and nobody else's port is in it."""
    shipped = SHIPPED.read_text()
    taken = tomllib.loads(shipped)["management"]["port"]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it: as good
            other.bind((LOOPBACK, taken))
            other.listen()
        settings = quickstart.write(tmp_path)

    assert settings.management[1] != taken
    written = settings.file.read_text().partition("\n")[2]
    assert re.sub(r"\d{4,5}", "PORT", written) == re.sub(r"\d{4,5}", "PORT", shipped)


def test_shipped_ports_are_one_demos(tmp_path: Path) -> None:
    """A second demo keeps away from the shipped ports, also while the first has yet to listen on them."""
    with quickstart.claimed(), quickstart.claimed() as is_ours:
        assert not is_ours

        settings = quickstart.write(tmp_path, takes_shipped_ports=is_ours)

    shipped = tomllib.loads(SHIPPED.read_text())
    assert settings.management[1] != shipped["management"]["port"]
    assert f":{shipped['ingress']['port']}/" not in settings.webhook_url


def test_colours_only_on_a_terminal() -> None:
    """The same line with and without colours, columns aligned, times relative to the line that starts them."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, coloured = io.StringIO(), Terminal()
    for out in (plain, coloured):
        timeline = Timeline(out)
        timeline.add(Line(1000.0125, Step.RESULT, "later"))
        timeline.add(Line(1000.0, Step.COMMAND, "first", is_start=True))
        timeline.print_all()

    assert plain.getvalue() == "    +0.000 s  command  first\n    +0.012 s  result   later\n"
    assert re.sub(r"\033\[[\d;]*m", "", coloured.getvalue()) == plain.getvalue()
    assert "\033[" in coloured.getvalue()


def _printed_steps(text: str) -> dict[str, str]:
    """The lines to type, by the comment above each."""
    lines = text.partition(KEPT)[2].splitlines()
    pairs = [(why[4:], line[2:]) for why, line in itertools.pairwise(lines) if why.startswith("  # ")]
    return {why: line for why, line in pairs if line}


def _script(steps: dict[str, str], about: str) -> list[str]:
    """The shell command for a step, behind the line for each terminal where there is one."""
    first = [line for why, line in steps.items() if why.startswith("in each terminal first")]
    wanted = [line for why, line in steps.items() if why.startswith(about)]
    assert len(wanted) == 1, steps
    return ["sh", "-c", "\n".join([*first, *wanted])]


def _shell(steps: dict[str, str], about: str) -> str:
    """What a step prints."""
    done = subprocess.run(_script(steps, about), capture_output=True, text=True, timeout=STEP_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def _in_background(steps: dict[str, str], about: str, output: Path) -> Iterator[None]:
    """A step that goes on until Ctrl-C; without the `-q` of the line it says when it listens."""
    script = [each.replace(" -q ", " ") for each in _script(steps, about)]
    with (
        output.open("wb") as log,
        subprocess.Popen(script, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _until_they_listen(steps: dict[str, str], *outputs: Path) -> None:
    """Return when each of these consumers has found its place; kcat says so of each partition, the stand-in once."""
    has_kcat = not any(why.startswith("in each terminal first") for why in steps)
    places = tomllib.loads(SHIPPED.read_text())["topics"]["partitions"] if has_kcat else 1
    deadline = time.monotonic() + STEP_SECONDS
    while any(output.read_text().count("Reached end of topic") < places for output in outputs):
        assert time.monotonic() < deadline, [output.read_text() for output in outputs]
        time.sleep(POLL_SECONDS)


def _descendants(pid: int) -> set[int]:
    """Every process below this one."""
    parents = {child: parent for child in _pids() if (parent := _parent(child)) is not None}
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent(pid: int) -> int | None:
    """The parent of a living process; None for one that is gone, or a zombie that somebody has yet to notice."""
    try:
        state, parent = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def _assert_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 10
    while left := {pid for pid in pids if _parent(pid) is not None}:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(POLL_SECONDS)
