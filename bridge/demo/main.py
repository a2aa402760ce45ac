"""`callbridge demo`: one call, end to end, on this machine only, with every line of it on the terminal.

It promises exit code 0 only if everything happened that was to happen, in bounded time, and that nothing it started is
left behind. How processes are started, lines are made and the call is followed is left to the modules beside it.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio

from bridge.demo import quickstart, summary
from bridge.demo.broker import BrokerError, QuickStartBroker
from bridge.demo.next_steps import next_steps
from bridge.demo.performance import Performance
from bridge.demo.plays import PLAYS
from bridge.demo.processes import END_SECONDS, Cast, DemoError, Stage
from bridge.demo.timeline import Timeline
from bridge.model.errors import CallbridgeError

SCRIPT = Path(__file__).parent / "scripts" / "appointment_reminder.toml"
SPEED = 4.0
"""How many times faster than life the callee and the telephone are; the gateway's own times are what they are."""
FAILED = 1
INTERRUPTED = 128 + signal.SIGINT


def demo(*, keep: bool, provider: str = quickstart.SHIPPED, script: Path = SCRIPT) -> int:
    """Run it; returns the exit code.

    `keep`: leave everything running until Ctrl-C. `provider`: one of `plays.PLAYS`; `script`: how it behaves.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it ends the demo with a reason
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell had them ignored, for a job in the background
        signal.signal(number, signal.default_int_handler)
    timeline = Timeline(sys.stdout)
    began = time.monotonic()
    try:
        with _stage(timeline, provider, script) as stage:
            wrong = _play(stage, timeline, keep=keep)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (DemoError, BrokerError, CallbridgeError) as error:
        wrong = [str(error)]
    timeline.say(f"\neverything was ended, {time.monotonic() - began:.0f} s after the start")
    if wrong:
        timeline.say(f"demo failed: {'; '.join(wrong)}")
        return FAILED
    if not keep:
        timeline.say("`callbridge demo --keep` leaves it running and prints what to type next")
    return 0


@contextlib.contextmanager
def _stage(timeline: Timeline, provider: str, script: Path) -> Iterator[Stage]:
    """Everything is up while the block lasts; started in the order of dependence, ended in reverse."""
    with contextlib.ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="callbridge-demo-")))
        is_ours = running.enter_context(quickstart.claimed())
        settings, play = quickstart.write(directory, takes_shipped_ports=is_ours, provider=provider), PLAYS[provider]
        timeline.say("callbridge demo: one call, end to end, on this machine only\n")
        timeline.say(f"  broker     Tansu at {settings.bootstrap}; in memory: what it holds is gone when the demo ends")
        running.enter_context(QuickStartBroker(port=settings.broker_port))
        cast = Cast(settings, directory, running)
        host, port = settings.simulator
        timeline.say(
            f"  provider   simulated {play.title} at {host}:{port}; "
            f"telephone and callee {SPEED:g} times faster than life"
        )
        simulator = cast.start_simulator(play, script=script, speed=SPEED)
        timeline.say(f"  daemon     callbridge run {settings.file}; webhooks at {settings.webhook_url}")
        daemon = cast.start_daemon()
        timeline.say("  agent      python -m bridge.demo.agent: hears calls.events, acts on calls.actions")
        agent = cast.start_agent()
        yield Stage(settings=settings, play=play, simulator=simulator, daemon=daemon, agent=agent)


def _play(stage: Stage, timeline: Timeline, *, keep: bool) -> list[str]:
    """The call and the end of the daemon; returns what was not as it should be."""
    performance = Performance(stage, timeline)
    invitation = _invitation(stage) if keep else ""
    rows: list[summary.Row] = []

    def show() -> None:
        rows.extend(performance.rows())
        timeline.say("\n".join(["", *map(str, rows)]) + invitation)

    anyio.run(performance.play, show, keep)
    if performance.was_interrupted and not rows:
        raise KeyboardInterrupt
    stage.daemon.end(END_SECONDS)
    rows.append(summary.ended(stage.daemon.exit_code))
    timeline.say(str(rows[-1]))
    wrong = [f"{row.what.strip()}: {row.seen}, wanted {row.wanted}" for row in rows if not row.is_good]
    return [*wrong, *performance.story.troubles]


def _invitation(stage: Stage) -> str:
    lines = [
        "\n\nEverything goes on until Ctrl-C, and the timeline with it. What to type in another terminal:\n",
        *map(str, next_steps(stage.settings, stage.play)),
        f"  # the configuration; the logs lie beside it: {stage.settings.file}\n",
    ]
    return "\n".join(lines)
