"""The call itself: wait until everybody is there, produce one command, follow what comes of it until it is over.

It promises that every wait has a deadline and says what it waits for, and that the end of a process, a refusal or a
signal ends the waiting at once. What was seen is judged in `summary`, and what is up or down is `main`'s matter.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

import anyio
import msgspec

from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.kafka.settings import KafkaSettings
from bridge.demo import summary
from bridge.demo.plays import Play
from bridge.demo.processes import DemoError, Stage, get
from bridge.demo.quickstart import CONNECTION
from bridge.demo.sources import Sources
from bridge.demo.story import Story
from bridge.demo.timeline import HOLD_SECONDS, Timeline
from bridge.model.commands import PlaceCall
from bridge.model.errors import CallbridgeError
from bridge.model.results import CallInitiated

COMMAND_ID = "demo-1"
JOIN_SECONDS = 40.0
CALL_SECONDS = 45.0
TICK_SECONDS = 0.03


def command(play: Play) -> bytes:
    """The command of a play: plays differ in `to`, and in `options` where there are some."""
    place = PlaceCall(
        command_id=COMMAND_ID,
        connection=CONNECTION,
        to=play.number,
        metadata={"about": "the appointment on Tuesday"},
        options=play.options,
    )
    return msgspec.json.encode({"type": place.type, **msgspec.to_builtins(place)})


class Performance:
    """One call on a stage where everything is up."""

    def __init__(self, stage: Stage, timeline: Timeline) -> None:
        self.story = Story(stage.settings.topics, command_id=COMMAND_ID)
        self.was_interrupted = False
        self._stage = stage
        self._timeline = timeline
        self._sources = Sources(self.story, timeline, simulator_log=stage.simulator.log)

    async def play(self, then: Callable[[], None], keep: bool) -> None:
        """Play the call, do `then`; with `keep` go on showing what happens until a signal.

        Raises:
            DemoError: what did not happen, and why as far as that is known.
        """
        settings = KafkaSettings(bootstrap_servers=[self._stage.settings.bootstrap], client_id="demo")
        bus = KafkaBus(settings)
        failures: list[Exception] = []
        async with (
            self._sources.open(bus) as read,
            bus.producer("demo") as producer,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(read)
            tasks.start_soon(self._cancel_on_signal, tasks.cancel_scope)
            try:
                await self._wait_for_members()
                topic = self._stage.settings.topics.commands.name
                await producer.publish(topic, key=COMMAND_ID.encode(), value=command(self._stage.play))
                await self._wait_for_end()
                then()
                while keep:
                    await self._tick()
            except (DemoError, CallbridgeError) as error:
                failures.append(error)  # outside of the group, which would wrap it
            tasks.cancel_scope.cancel()
        self._sources.read_simulator()  # a result can be read before the simulator's line that led to it
        self._timeline.print_all()
        for failure in failures:
            raise failure

    def rows(self) -> Sequence[summary.Row]:
        """The table for the call."""
        number = self._stage.play.number.removeprefix("+")
        page = get(self._stage.settings.simulator, f"/_sim/calls?number={number}")
        seen = summary.Seen() if page is None else msgspec.json.decode(page, type=summary.Seen)
        return summary.rows(self.story, seen, command_id=COMMAND_ID, play=self._stage.play)

    # -- waiting ----------------------------------------------------------------------------------------------------

    async def _wait_for_members(self) -> None:
        partitions = self._stage.settings.topics.commands.partitions
        self._timeline.say(
            "\nwaiting for the consumer groups of daemon and agent (Tansu takes about 5 s for a first join)"
        )
        began = time.monotonic()
        await self._until(
            lambda: len(self.story.owned) == partitions and self._stage.agent.says("listening to "),
            lambda: f"the groups did not form; {len(self.story.owned)} of {partitions} ledger partitions have an owner",
            seconds=JOIN_SECONDS,
        )
        self._timeline.say(
            f"they are there after {time.monotonic() - began:.1f} s; times are relative to the command\n"
        )

    async def _wait_for_end(self) -> None:
        """Over, everything answered, and nothing new for as long as a line is held back."""
        for rest_seconds in (2 * HOLD_SECONDS, 0.0):
            await self._until(
                self._is_over, lambda: f"the call was not over; so far {dict(self.story.counts)}", seconds=CALL_SECONDS
            )
            with anyio.move_on_after(rest_seconds):
                while True:
                    await self._tick()

    def _is_over(self) -> bool:
        if self.story.troubles:
            raise DemoError("; ".join(self.story.troubles))
        result = self.story.results.get(COMMAND_ID)
        if result is not None and not isinstance(result, CallInitiated):
            reason = getattr(result, "reason", "no reason given")
            detail = getattr(result, "detail", None)
            said = f"{reason} ({detail})" if detail else reason
            raise DemoError(f"{COMMAND_ID} ended as {result.__struct_config__.tag}: {said}")
        counts = self.story.counts
        is_answered = counts["answers"] == counts["webhooks"] and counts["verdicts"] >= counts["actions"]
        return result is not None and counts["calls.over"] > 0 and is_answered

    async def _until(self, holds: Callable[[], bool], missing: Callable[[], str], *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise DemoError(f"within {seconds:g} s {missing()}")
            await self._tick()

    async def _tick(self) -> None:
        for child in (self._stage.simulator, self._stage.daemon, self._stage.agent):
            if not child.is_alive():
                raise child.explained(f"ended with code {child.exit_code}")
        self._sources.read_simulator()
        self._timeline.print_due()
        await anyio.sleep(TICK_SECONDS)

    async def _cancel_on_signal(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.was_interrupted = True
                scope.cancel()
                return
