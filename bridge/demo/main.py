"""`callbridge demo`: one call, end to end, on this machine only, with every line of it on the terminal.

It promises exit code 0 only if everything happened that was to happen, in bounded time, and that nothing it started is
left behind. The broker, the processes, the timeline and the table are its parts' matter; here is the order of things.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import msgspec

from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.kafka.settings import KafkaSettings
from bridge.demo import next_steps, quickstart, summary
from bridge.demo.broker import BrokerError, QuickStartBroker
from bridge.demo.processes import END_SECONDS, Cast, Child, DemoError, get
from bridge.demo.quickstart import CONNECTION, QuickStart
from bridge.demo.sources import Sources
from bridge.demo.story import Story
from bridge.demo.timeline import Timeline
from bridge.model.commands import PlaceCall
from bridge.model.errors import CallbridgeError
from bridge.model.results import CallInitiated

SCRIPT = Path(__file__).parent / "scripts" / "appointment_reminder.toml"
SPEED = 4.0
"""How many times faster than life the call is; the gateway's own times are as they are."""
COMMAND = PlaceCall(
    command_id="demo-1", connection=CONNECTION, to="+4915790000687", metadata={"appointment": "Tuesday at ten"}
)
JOIN_SECONDS = 40.0
CALL_SECONDS = 45.0
TICK_SECONDS = 0.03
INTERRUPTED = 128 + signal.SIGINT


def demo(*, keep: bool, script: Path = SCRIPT) -> int:
    """Run it; returns the exit code. `keep`: leave everything running until Ctrl-C. `script`: how the provider behaves."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what matters of it reaches the timeline
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    timeline = Timeline(sys.stdout)
    try:
        with contextlib.ExitStack() as running:
            stage = Stage(running, timeline, script=script)
            ended = anyio.run(stage.play, keep)
            code = stage.end_daemon()
    except KeyboardInterrupt:
        return INTERRUPTED
    except (DemoError, BrokerError, CallbridgeError) as error:
        timeline.say(f"\ndemo failed: {error}")
        return 1
    return ended or code
