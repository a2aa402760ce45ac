"""The consumers' library without Kafka: settings, registration, results that are awaited, what is left to a question."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bridge.bus.protocol import Headers, Record
from bridge.client import (
    ActionResult,
    Agent,
    Event,
    Heard,
    Misconfigured,
    NotYet,
    Sent,
    SessionStarted,
    Speak,
    Unavailable,
    UserDtmf,
    UserSpoke,
    at,
    read_settings,
)
from bridge.client.awaited import Awaited
from bridge.client.reading import KINDS, kind_of, trace_of
from bridge.model.actions import Action
from bridge.model.events import Reply, Said

NOW = datetime.now(UTC)


def spoken(reply: Reply | None = None) -> UserSpoke:
    """A turn of the user."""
    return UserSpoke(
        event_id="e", connection="sales", provider="p", session="s1", received_at=NOW, data=Said(text="hi"), reply=reply
    )


# -- settings ---------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    """One address is enough; topics are called as the bridge calls them."""
    topics = at("kafka-1:9092").topics
    assert (topics.commands, topics.results, topics.events) == ("calls.commands", "calls.results", "calls.events")
    assert (topics.actions, topics.action_results) == ("calls.actions", "calls.action-results")


def test_a_file(tmp_path: Path) -> None:
    """`[kafka]` is the bridge's, a topic's own name goes before the prefix."""
    file = tmp_path / "client.toml"
    file.write_text(
        """follows = []
[kafka]
bootstrap_servers = ["a:1", "b:2"]
security_protocol = "SASL_SSL"
sasl_mechanism = "PLAIN"
sasl_username = "me"
sasl_password = { env = "PASSWORD" }
[topics]
prefix = "voice."
events = "what-happens"
[hearing]
max_parallel = 3
"""
    )
    settings = read_settings(file)
    assert settings.kafka.sasl_mechanism == "PLAIN"
    assert (settings.topics.events, settings.topics.actions) == ("what-happens", "voice.actions")
    assert (settings.hearing.max_parallel, settings.follows) == (3, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[kafka]\n", "kafka.bootstrap_servers: found nothing"),
        ("[kafka]\nbootstrap_servers = ['a']\n", "host:port"),
        ("[kafka]\nbootstrap_servers = ['a:1']\n[hearing]\ndrain = 1\n", "unknown field drain"),
        ("[kafka]\nbootstrap_servers = ['a:1']\n[hearing]\ndrain_seconds = 40\n", "rebalance_timeout_seconds"),
        ("kafka", "allowed a TOML file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """File, place, what was found and what is allowed."""
    file = tmp_path / "client.toml"
    file.write_text(text)
    with pytest.raises(Misconfigured, match=r"client\.toml: ") as raised:
        read_settings(file)
    assert said in str(raised.value).replace("allowed: ", "allowed ")
    with pytest.raises(Misconfigured):
        read_settings(tmp_path / "nowhere.toml")


# -- registration -----------------------------------------------------------------------------------------------------


async def handler(heard: Heard[Event]) -> None:
    """Does nothing."""


def test_what_an_agent_hears() -> None:
    """What it has a handler for, and what has no header to tell; nothing of a version that is not known here."""
    agent = Agent("g")
    agent.on(UserSpoke, SessionStarted)(handler)
    assert agent.hears(b"user.spoke")
    assert agent.hears(b"session.started")
    assert agent.hears(None)
    assert not agent.hears(b"user.dtmf")
    assert agent.handler_of(spoken()) is handler
    agent.on_other(handler)
    assert agent.hears(b"user.dtmf")
    assert not agent.hears(b"of.another.version")


def test_one_handler_each() -> None:
    """A second handler for one type is a mistake that is told at once."""
    agent = Agent("g")
    agent.on(UserSpoke)(handler)
    with pytest.raises(ValueError, match="UserSpoke has a handler already"):
        agent.on(UserDtmf, UserSpoke)(handler)


def test_every_type_of_event_is_known_by_its_name() -> None:
    """As the header says it."""
    assert KINDS[b"user.spoke"] is UserSpoke
    assert len(KINDS) == len(set(KINDS.values())) == 19
    record = Record("t", 0, 0, b"k", b"{}", [("ce_type", b"user.spoke"), ("traceparent", b"00-1"), ("x", b"y")])
    assert kind_of(record) == b"user.spoke"
    assert trace_of(record) == [("traceparent", b"00-1")]
    assert kind_of(record._replace(headers=())) is None


# -- what a handler is given --------------------------------------------------------------------------------------------


class Acts:
    """Remembers what was sent."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Sequence[Action], str | None, Headers]] = []

    async def __call__(
        self,
        connection: str,
        session: str,
        actions: Sequence[Action],
        *,
        in_reply_to: str | None = None,
        trace: Headers = (),
    ) -> Sent[ActionResult]:
        """Note it."""
        self.calls.append((connection, session, actions, in_reply_to, trace))
        return Sent("id", None)


on_a_loop = pytest.mark.anyio


@on_a_loop
async def test_answer_act_and_release() -> None:
    """An answer carries the token, an act does not, a release says nothing and is written while somebody waits only."""
    acts, trace = Acts(), [("traceparent", b"00-1")]
    open_ = Heard(spoken(Reply("token", NOW + timedelta(days=1))), acts, trace)
    over = Heard(spoken(Reply("token", NOW - timedelta(seconds=1))), acts)
    unasked = Heard(spoken(), acts)
    assert 3600 < open_.seconds_left <= 86_400
    assert (over.seconds_left, unasked.seconds_left, unasked.reply) == (0.0, 0.0, None)
    one, two = Speak(text="one"), Speak(text="two")
    await open_.answer(one, two)
    await open_.act(one)
    await open_.release()
    await over.answer(one)
    await over.release()
    await unasked.answer(one)
    await unasked.release()
    assert [(call[2], call[3]) for call in acts.calls] == [
        ((one, two), "token"),
        ((one,), None),
        ((), "token"),
        ((one,), "token"),
        ((one,), None),
    ]
    assert acts.calls[0][:2] == ("sales", "s1")
    assert acts.calls[0][4] == trace


# -- results ----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_result_is_kept_until_it_is_awaited() -> None:
    """It may come before; the first counts, and nothing is kept of it where it came in."""
    awaited: Awaited[str] = Awaited(most=10)
    slot = awaited.expect("a", b"k")
    assert awaited.concerns(b"k")
    assert not awaited.concerns(b"other")
    awaited.take("a", "done")
    awaited.take("a", "again")
    awaited.take("never expected", "x")
    assert (await slot.value(seconds=1), len(awaited), awaited.concerns(b"k")) == ("done", 0, False)


@on_a_loop
async def test_a_result_that_does_not_come() -> None:
    """`NotYet` at the deadline, which is an `Unavailable`; without following, a mistake."""
    awaited: Awaited[str] = Awaited(most=10)
    assert issubclass(NotYet, Unavailable)
    with pytest.raises(NotYet, match=r"no result within 0\.01 s"):
        await Sent("a", awaited.expect("a", b"k")).result(seconds=0.01)
    with pytest.raises(ValueError, match="not followed"):
        await Sent("a", None).result(seconds=1)


def test_what_is_awaited_is_bounded() -> None:
    """The oldest is let go, its key too, unless another one needs it."""
    awaited: Awaited[str] = Awaited(most=3)
    for number in range(5):
        awaited.expect(str(number), b"even" if number % 2 == 0 else b"odd")
    assert len(awaited) == 3
    assert awaited.concerns(b"odd")
    for name in ("2", "3", "4"):
        awaited.take(name, "x")
    assert not awaited.concerns(b"odd")
    assert not awaited.concerns(b"even")


def test_the_same_name_twice_is_one_slot() -> None:
    """A command that is placed again waits for the same result."""
    awaited: Awaited[str] = Awaited(most=3)
    assert awaited.expect("a", b"k") is awaited.expect("a", b"k")
    awaited.take("a", "x")
    assert not awaited.concerns(b"k")
