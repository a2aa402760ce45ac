"""Whose call a webhook is, by the index: what begins a session, and what comes when it is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import pytest

from bridge.events.identify import Identify, IdentifySettings
from bridge.ledger.index import Index, IndexSettings, Known, lifetime
from bridge.model.events import CallAnswered, CallEnded, CallReport, Ended, Event, Progress, Report
from bridge.providers.protocol import Heard
from tests.support.clock import NOON, HandClock
from tests.unit.test_index import CALLEE, TOPIC, Log

pytestmark = pytest.mark.anyio

TTL = 4 * 3600.0
SESSION = "demo/s-1"
LATE_SECONDS = 2160.0
WINDOW_SECONDS = 120.0


class Stand:
    """One replica's way from a webhook to its call."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.log = Log()
        self.index = Index(TOPIC, self.log, self.clock, IndexSettings())
        self.identify = Identify(self.index, self.clock, IdentifySettings(unknown_session_wait_seconds=0))

    async def dials(self, command_id: str) -> None:
        """A call to the callee is announced as a lane does it for a provider that repeats its webhooks."""
        now = self.clock.now()
        known = Known(
            at=now,
            until=lifetime(now, WINDOW_SECONDS + LATE_SECONDS),
            begins_until=lifetime(now, WINDOW_SECONDS),
            command_id=command_id,
            call_id=f"call_{command_id}",
            metadata={"order": command_id},
        )
        await self.index.announce("demo", [CALLEE], known)

    async def whose(self, heard: Heard) -> Known | None:
        """What the flow does with a webhook, but for publishing it."""
        known = await self.identify.whose("demo", heard, session_ttl_seconds=TTL)
        if heard.ends_session:
            await self.identify.ended("demo", heard)
        return known


def heard(
    kind: Callable[..., Event],
    data: msgspec.Struct,
    *,
    occurred_at: datetime | None = None,
    starts: bool = True,
    ends: bool = False,
) -> Heard:
    """A webhook of the one session."""
    return Heard(
        session="s-1",
        kind=kind,
        data=data,
        raw=b"{}",
        provider_type="p",
        occurred_at=occurred_at,
        known_by=(CALLEE,) if starts else (),
        starts_session=starts,
        ends_session=ends,
    )


def answered(*, at: datetime | None = None) -> Heard:
    """`call.started` of TalkifAI."""
    return heard(CallAnswered, Progress(), occurred_at=at)


REPORT = heard(CallReport, Report())
END = heard(CallEnded, Ended(reason="completed"), starts=False, ends=True)


@pytest.mark.parametrize("minutes", [2, 35, 58])
@pytest.mark.parametrize("webhook", [answered(), REPORT])
async def test_no_late_webhook_revives_a_session(webhook: Heard, minutes: int) -> None:
    """It has its call's metadata, and the index goes on to say that the session is over."""
    stand = Stand()
    await stand.dials("c")
    await stand.whose(answered())
    await stand.whose(END)
    written = len(stand.log.records)
    stand.clock.advance(60 * minutes)
    known = await stand.whose(webhook)
    assert known is not None
    assert (known.command_id, known.metadata, known.ended) == ("c", {"order": "c"}, True)
    assert len(stand.log.records) == written


async def test_a_session_that_is_over_is_forgotten_in_the_end() -> None:
    """After an hour."""
    stand = Stand()
    await stand.whose(answered())
    await stand.whose(END)
    stand.clock.advance(3600)
    assert stand.index.session(SESSION) is None


async def test_a_beginning_that_its_end_overtook_says_whose_call_it_was() -> None:
    """It settles the command, uses the name up, and the session stays over for as long as that is remembered."""
    stand = Stand()
    await stand.dials("c")
    until = lifetime(NOON, 3600)
    await stand.index.bind(SESSION, Known(at=NOON, until=until, ended=True))  # as the watchdog does it
    stand.clock.advance(330)
    known = await stand.whose(answered(at=NOON + timedelta(seconds=20)))
    assert known is not None
    assert (known.command_id, known.ended, known.until, known.begins_until) == ("c", True, until, None)
    assert (stand.index.session(SESSION), stand.index.heard_of("c")) == (known, SESSION)
    assert stand.index.match("demo", [CALLEE], occurred_at=NOON) is None


async def test_an_end_of_nobodys_stays_one() -> None:
    """A beginning that names no call of ours changes nothing."""
    stand = Stand()
    over = Known(at=NOON, until=lifetime(NOON, 3600), ended=True)
    await stand.index.bind(SESSION, over)
    assert await stand.whose(answered()) == over
    assert len(stand.log.records) == 1


async def test_a_webhook_that_gets_through_at_its_third_repetition_finds_its_command() -> None:
    """TalkifAI's last try is 35.5 minutes after the first; another call to the callee has been dialled meanwhile."""
    stand = Stand()
    await stand.dials("c")
    stand.clock.advance(1200)
    await stand.dials("d")
    stand.clock.advance(30 + 30 + 300 + 1800 - 1200)
    known = await stand.whose(answered(at=NOON + timedelta(seconds=30)))
    assert known is not None
    assert (known.command_id, known.certain, known.ended) == ("c", True, False)
    assert known.until == lifetime(stand.clock.now(), TTL)
    found = stand.index.match("demo", [CALLEE], occurred_at=NOON + timedelta(seconds=1230))
    assert found is not None
    assert found.known.command_id == "d"
