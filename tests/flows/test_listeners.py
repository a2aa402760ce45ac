"""Nobody listens: what a question gets while the consumers' group has no members, and when they are back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from aiokafka import AIOKafkaConsumer

from tests.support.brokers import Broker
from tests.support.daemon import READY_SECONDS
from tests.support.stage import Stage, stage
from tests.support.webhooks import asking, new_session, post, said, speak

pytestmark = pytest.mark.anyio

CONNECTIONS = {
    "demo": {"reply": {"deadline_seconds": 4.0}},
    "filler": {"reply": {"deadline_seconds": 0.2, "fallback": [{"type": "speak", "text": "One moment."}]}},
}
GROUP = "agents-of-"
HELD_SECONDS = 4.0
"""Of the connection `demo`."""


@contextlib.asynccontextmanager
async def member(here: Stage, group_id: str) -> AsyncIterator[None]:
    """Somebody in the group, for the length of the block."""
    consumer = AIOKafkaConsumer(here.topic("events"), bootstrap_servers=here.broker.bootstrap, group_id=group_id)
    try:
        await consumer.start()
        yield
    finally:
        await consumer.stop()


async def until_nobody_listens(here: Stage, *, value: float) -> None:
    """Return when the daemon thinks so, or does not."""
    with anyio.fail_after(READY_SECONDS):
        while await here.daemon.metric("nobody_listens") != value:
            pass


async def test_questions_that_nobody_would_answer_get_their_fallback_at_once(
    apache_kafka: Broker, tmp_path: Path, topic_prefix: str
) -> None:
    """Their events are stored, and ask nothing; when a member is back they ask again. One log line for each change."""
    group_id = GROUP + topic_prefix
    actions = {"consumer_group_id": group_id, "look_seconds": 0.2}
    async with stage(apache_kafka, tmp_path, connections=CONNECTIONS, actions=actions) as here:
        await until_nobody_listens(here, value=1)
        session = new_session()
        answers = [await post(here, said(session, f"turn {turn}")) for turn in range(3)]
        assert [answer.status for answer in answers] == [204, 204, 204]
        assert max(answer.seconds for answer in answers) < HELD_SECONDS / 2
        events = await here.events(session, count=3)
        assert [(event.type, "reply" in event.json) for event in events] == [("user.spoke", False)] * 3
        assert await here.daemon.metric("questions_total", answered_with="nobody_listens") == 3

        async with member(here, group_id):
            await until_nobody_listens(here, value=0)
            async with asking(here, said(session, "and now?")) as question:
                place = await question.act(speak("now somebody does"))
            assert question.answer.json["text"] == "now somebody does"
            assert (await here.verdict(place))["status"] == "delivered"
        await until_nobody_listens(here, value=1)

        await here.daemon.until(lambda: len(here.daemon.lines_of("listeners.gone")) == 2, "the second line")
        assert len(here.daemon.lines_of("listeners.back")) == 1


async def test_a_kafka_that_cannot_be_asked_counts_as_somebody(
    quick_broker: Broker, tmp_path: Path, topic_prefix: str
) -> None:
    """The quick-start broker goes on naming members that have left: a question is asked, and waited for."""
    group_id = GROUP + topic_prefix
    actions = {"consumer_group_id": group_id, "look_seconds": 0.2}
    async with stage(quick_broker, tmp_path, connections=CONNECTIONS, actions=actions) as here:
        async with member(here, group_id):
            await until_nobody_listens(here, value=0)
        answer = await post(here, said(new_session()), connection="filler")
        assert answer.json["text"] == "One moment."
        assert await here.daemon.metric("questions_total", answered_with="fallback") == 1
