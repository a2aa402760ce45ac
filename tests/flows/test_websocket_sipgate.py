"""sipgate over its WebSocket with everything real but the provider: frames in, events on Kafka, actions as frames.

For whole calls the simulated provider connects to the daemon; where single frames matter, the tests are the provider.
Limits of the sockets themselves are in tests/contract/test_server_websocket.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.frames import Frame, Opcode

from bridge.demo.simulators.faults import Drop, Garbage, Oversize, WebhookFault
from bridge.demo.simulators.script import Callee, HangUp, Interrupt, Press, Say, Script, WebhookRule
from tests.support.brokers import Broker, OwnKafka
from tests.support.daemon import WEBHOOK_SECRET
from tests.support.kafka_tools import warmed
from tests.support.stage import Stage, stage, telling
from tests.support.webhooks import act, answering, echo, ended, new_session, post, pressed, said, speak, started
from tests.support.websocket import Closed, Socket, asking, connected, opened

pytestmark = pytest.mark.anyio

PROOF = f"X-API-TOKEN: {WEBHOOK_SECRET}".encode()
CONNECTIONS = {"demo": {}, "hasty": {"reply": {"websocket_seconds": 0.2}}}


@pytest.fixture(scope="module")
async def shared_stage(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One daemon for each broker; its calls come over WebSockets."""
    folder = tmp_path_factory.mktemp("websocket")
    async with stage(broker, folder, ingress={"max_body_bytes": 65_536}, connections=CONNECTIONS) as found:
        found.simulator.point_webhooks_at(f"{found.daemon.webhook_url}/webhooks/demo".replace("http", "ws"))
        yield found


@pytest.fixture
def here(shared_stage: Stage) -> Iterator[Stage]:
    """The shared stage."""
    with telling(shared_stage) as found:
        yield found


@contextlib.asynccontextmanager
async def calling(here: Stage, *, connection: str = "demo") -> AsyncIterator[Socket]:
    """An open socket, as sipgate opens one for a call."""
    async with await connected(here.daemon.webhook_url) as wire:
        yield await opened(wire, f"/webhooks/{connection}", PROOF)


async def tell(socket: Socket, event: dict[str, Any]) -> None:
    """Send an event."""
    await socket.say(json.dumps(event))


async def heard(socket: Socket) -> dict[str, Any]:
    """The next action."""
    frame = await socket.hear()
    assert isinstance(frame, str), frame
    action: dict[str, Any] = json.loads(frame)
    return action


async def last_event(here: Stage, session: str) -> dict[str, Any]:
    """The event that ends a session."""
    found = await here.written.wait_for(
        here.topic("events"), lambda each: bool(each.json["session"] == session and each.type == "session.ended")
    )
    event: dict[str, Any] = found[0].json
    return event


# -- whole calls ------------------------------------------------------------------------------------------------------


async def test_a_whole_call(here: Stage) -> None:
    """Each frame is an event with the command's id and metadata, in order; answers are spoken; nothing else differs."""
    number = here.callee()
    turns = (Say(text="Yes"), Press(digits="1"), HangUp())
    here.play(Script(callees=(Callee(number=number.lstrip("+"), rings_seconds=1, turns=turns),)))
    async with answering(here, echo):
        await here.place("ws-whole", number, metadata={"order": 7})
        call_id = (await here.result("ws-whole"))["call_id"]
        await here.simulator.wait_for(lambda history: history.counts["calls.ended"] > 0, 60)

    [call] = [call for call in here.simulator.history.calls.values() if call.number == number.lstrip("+")]
    events = [message.json for message in await here.events(call.session, count=call.webhooks)]
    assert [event["type"] for event in events] == [
        "session.started",
        "assistant.speaking",
        "assistant.finished",
        "user.speech_started",
        "user.spoke",
        "assistant.speaking",
        "assistant.finished",
        "user.dtmf",
        "session.ended",
    ]
    for event in events:
        assert (event["command_id"], event["call_id"], event["metadata"]) == ("ws-whole", call_id, {"order": 7})
    assert call.said[:3] == ["agent: hello", "callee: Yes", "agent: you said: Yes"]
    assert call.ended_by == "callee"
    verdicts = [
        each.json for each in here.written[here.topic("action-results")] if each.json["session"] == call.session
    ]
    assert {verdict["delivered_by"] for verdict in verdicts} == {"websocket"}


async def test_faults_on_the_line(here: Stage) -> None:
    """Garbage is kept and the call goes on; a frame that is too long, or a cut line, ends it for everybody."""
    numbers = {name: here.callee() for name in ("garbage", "oversize", "cut")}
    faults: dict[str, WebhookFault] = {
        "garbage": Garbage(text='{"no": "session"'),
        "oversize": Oversize(bytes=70_000),
        "cut": Drop(),
    }
    callees = [
        Callee(
            number=numbers[name].lstrip("+"),
            rings_seconds=0,
            turns=(Say(text=name), HangUp()),
            webhook_faults=(WebhookRule(on="user_speak", fault=faults[name]),),
        )
        for name in numbers
    ]
    here.play(Script(callees=tuple(callees)))
    async with answering(here, echo):
        for name, number in numbers.items():
            await here.place(f"ws-{name}", number)
        calls = here.simulator.history.calls
        await here.simulator.wait_for(
            lambda _: (
                sum(call.state == "ended" for call in calls.values() if f"+{call.number}" in numbers.values()) == 3
            ),
            60,
        )
    ends = {}
    for name, number in numbers.items():
        [call] = [call for call in calls.values() if f"+{call.number}" == number]
        end = await last_event(here, call.session)
        ends[name] = end["data"].get("reason")
        assert end["command_id"] == f"ws-{name}"
    assert ends == {"garbage": None, "oversize": "websocket_closed", "cut": "websocket_closed"}
    assert (await here.letter(b'{"no": "session"')).headers["dlq_source"] == "webhooks/demo"


async def test_the_user_interrupts(here: Stage) -> None:
    """A barge-in comes as the beginning of speech and as words."""
    number = here.callee()
    turns = (Interrupt(text="stop right there", after_seconds=0.5), HangUp())
    here.play(Script(callees=(Callee(number=number.lstrip("+"), rings_seconds=0, turns=turns),)))
    async with answering(
        here, lambda event: [speak("la " * 40)] if event["type"] == "session.started" else echo(event)
    ):
        await here.place("ws-barge", number)
        await here.result("ws-barge")
        await here.simulator.wait_for(
            lambda history: any(call.number == number.lstrip("+") and call.ended for call in history.calls.values()), 60
        )
    [call] = [call for call in here.simulator.history.calls.values() if call.number == number.lstrip("+")]
    events = [message.json for message in await here.events(call.session, count=call.webhooks)]
    types = [event["type"] for event in events]
    assert types.index("user.speech_started") < types.index("user.spoke")
    assert next(event for event in events if event["type"] == "user.spoke")["data"]["barged_in"] is True


# -- what goes out ----------------------------------------------------------------------------------------------------


async def test_an_answer(here: Stage) -> None:
    """The action that names an event is one frame each, in order; its verdict says how it went."""
    session = new_session()
    async with calling(here) as socket:
        await tell(socket, said(session))
        [event] = await here.events(session)
        place = await act(here, event, speak("one"), speak("two"), in_reply_to=event.json["reply"]["token"])
        assert [await heard(socket) for _ in range(2)] == [
            {"type": "speak", "session_id": session, "text": "one"},
            {"type": "speak", "session_id": session, "text": "two"},
        ]
        verdict = await here.verdict(place)
        again = await act(here, event, speak("three"), in_reply_to=event.json["reply"]["token"])
        second = await here.verdict(again)
    assert (verdict["status"], verdict["delivered_by"]) == ("delivered", "websocket")
    assert verdict["event_id"] == event.ce_id
    assert (second["status"], second["reason"]) == ("superseded", "another_answer_came_first")


async def test_unasked_at_once(here: Stage) -> None:
    """Without a token an action is spoken at once, beside an open question, which stays open for its answer."""
    session = new_session()
    async with calling(here) as socket:
        await tell(socket, started(session))
        await tell(socket, {"type": "assistant_speech_ended", "session": {"id": session}})
        events = await here.events(session, count=2)
        place = await act(here, events[0], speak("by the way"))
        assert (await heard(socket))["text"] == "by the way"
        verdict = await here.verdict(place)
        answered = await act(here, events[0], speak("hello"), in_reply_to=events[0].json["reply"]["token"])
        assert (await heard(socket))["text"] == "hello"
        assert (await here.verdict(answered))["status"] == "delivered"
    assert (verdict["status"], verdict["delivered_by"], verdict.get("event_id")) == ("delivered", "websocket", None)


async def test_a_newer_turn(here: Stage) -> None:
    """What was to be said to words that the user has gone past is not said; also when he has only begun to speak."""
    session = new_session()
    async with calling(here) as socket:
        await tell(socket, said(session, "first"))
        await tell(socket, {"type": "user_speech_started", "session": {"id": session}})
        await tell(socket, said(session, "second"))
        events = await here.events(session, count=3)
        stale = await act(here, events[0], speak("to the first"), in_reply_to=events[0].json["reply"]["token"])
        fresh = await act(here, events[2], speak("to the second"), in_reply_to=events[2].json["reply"]["token"])
        assert (await heard(socket))["text"] == "to the second"
        verdicts = [await here.verdict(place) for place in (stale, fresh)]
    assert [verdict["status"] for verdict in verdicts] == ["superseded", "delivered"]
    assert verdicts[0]["reason"] == "newer_user_turn"


async def test_late(here: Stage) -> None:
    """After its time an answer is said all the same, because nobody waited for it; the verdict says that it was late."""
    session = new_session()
    async with calling(here, connection="hasty") as socket:
        await tell(socket, pressed(session))
        [event] = await here.events(session)
        await here.daemon.until_metric("questions_total", 1, answered_with="fallback")
        place = await act(here, event, speak("late"), in_reply_to=event.json["reply"]["token"])
        assert (await heard(socket))["text"] == "late"
        verdict = await here.verdict(place)
    assert (verdict["status"], verdict["delivered_by"]) == ("delivered_late", "websocket")


async def test_not_for_this_provider(here: Stage) -> None:
    """What sipgate does not have is rejected, asked or unasked, and nothing of the record is said."""
    session = new_session()
    async with calling(here) as socket:
        await tell(socket, said(session))
        [event] = await here.events(session)
        wrong = (speak("fine"), {"type": "send_dtmf", "digits": "1"})
        unasked = await act(here, event, *wrong)
        asked = await act(here, event, *wrong, in_reply_to=event.json["reply"]["token"])
        verdicts = [await here.verdict(place) for place in (unasked, asked)]
        await act(here, event, speak("better"), in_reply_to=event.json["reply"]["token"])
        assert (await heard(socket))["text"] == "better"
    assert [(verdict["status"], verdict["reason"]) for verdict in verdicts] == [
        ("rejected", "invalid_for_provider")
    ] * 2


# -- what comes in ----------------------------------------------------------------------------------------------------


async def test_the_order_of_frames(here: Stage) -> None:
    """Frames in one packet are as many events, in their order, each with an id of its own; sessions do not wait."""
    session, other = new_session(), new_session()
    async with calling(here) as socket, calling(here) as beside:
        keys = "0123456789*#" * 3
        frames = [Frame(Opcode.TEXT, json.dumps(pressed(session, key)).encode()).serialize(mask=True) for key in keys]
        await socket.wire.send(b"".join(frames))
        await tell(beside, said(other))
        messages = await here.events(session, count=len(keys))
        assert await here.events(other)
    assert "".join(message.json["data"]["digit"] for message in messages) == keys
    assert len({message.ce_id for message in messages}) == len(keys)


async def test_the_line_is_cut(here: Stage) -> None:
    """A session whose end was not heard is ended for its consumers; an action for it finds nobody."""
    session = new_session()
    async with calling(here, connection="hasty") as socket:
        await tell(socket, said(session))
        await here.events(session)
        socket.wire.reset()
    events = await here.events(session, count=2)
    place = await act(here, events[0], speak("nobody hears"), in_reply_to=events[0].json["reply"]["token"])
    assert (events[1].type, events[1].json["data"]) == ("session.ended", {"reason": "websocket_closed"})
    assert events[1].json["raw"] == {"type": "websocket_closed", "code": 1006}
    assert (await here.verdict(place))["status"] == "expired"


async def test_an_end_that_was_heard(here: Stage) -> None:
    """After `session_end` a closed socket says nothing new."""
    session, witness = new_session(), new_session()
    async with calling(here) as socket:
        await tell(socket, started(session))
        await tell(socket, ended(session))
        await here.events(session, count=2)
        await socket.close()
        assert await socket.hear() == Closed(1000)
    async with calling(here) as socket:  # a session that is cut later comes later
        await tell(socket, said(witness))
        await here.events(witness)
    await here.events(witness, count=2)
    assert [message.type for message in here.events_so_far(session)] == ["session.started", "session.ended"]


async def test_a_session_that_comes_back(here: Stage) -> None:
    """The new socket is where it is reached; the end of the old one means nothing."""
    session = new_session()
    async with calling(here) as old, calling(here) as new:
        await tell(old, started(session))
        await here.events(session)
        await tell(new, said(session))
        events = await here.events(session, count=2)
        await old.close()
        assert await old.hear() == Closed(1000)
        await act(here, events[1], speak("here"))
        assert (await heard(new))["text"] == "here"
        assert [message.type for message in here.events_so_far(session)] == ["session.started", "user.spoke"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param("/webhooks/demo", (), 401, id="no secret"),
        pytest.param("/webhooks/demo", (b"X-API-TOKEN: guess",), 401, id="a wrong secret"),
        pytest.param("/webhooks/nobody", (PROOF,), 404, id="no such connection"),
        pytest.param("/elsewhere", (PROOF,), 404, id="another path"),
    ],
)
async def test_no_way_in(here: Stage, path: str, headers: tuple[bytes, ...], status: int) -> None:
    """The same proof as a webhook, before there is a socket."""
    async with await connected(here.daemon.webhook_url) as wire:
        await wire.send(asking(path, *headers))
        assert (await wire.answer()).status == status
        assert await wire.rest() == b""


async def test_too_many_sessions_on_one_socket(here: Stage) -> None:
    """Sipgate opens one for each call; a handful more is borne."""
    async with calling(here) as socket:
        for _ in range(17):
            await tell(socket, pressed(new_session()))
        assert await socket.hear() == Closed(1008, "too many sessions on one socket")


# -- trouble of ours --------------------------------------------------------------------------------------------------


async def test_kafka_is_away(own_kafka: OwnKafka, tmp_path: Path) -> None:
    """An event comes once: for a while it is tried again; then the socket is closed with 1013, and nothing is pretended."""
    kafka = own_kafka()
    await warmed(kafka.bootstrap)
    events = {
        "publish_seconds": 1.0,
        "websocket_insist_seconds": 6.0,
    }
    async with stage(Broker("own", kafka.bootstrap), tmp_path, events=events) as here:
        waits, gives_up = new_session(), new_session()
        async with calling(here) as patient, calling(here) as hopeless:
            await tell(patient, started(waits))
            await tell(hopeless, started(gives_up))
            await here.events(waits)
            await here.events(gives_up)
            kafka.pause()
            await tell(hopeless, said(gives_up))
            assert await hopeless.hear() == Closed(1013, "events cannot be stored now")
            failed = len(here.daemon.lines_of("frame.waits"))
            await tell(patient, said(waits))
            await here.daemon.until(lambda: len(here.daemon.lines_of("frame.waits")) > failed, "a try that failed")
            kafka.resume()
            events_of = await here.events(waits, count=2)
            await act(here, events_of[1], speak("still there"), in_reply_to=events_of[1].json["reply"]["token"])
            assert (await heard(patient))["text"] == "still there"
            await tell(patient, ended(waits))
            await here.events(waits, count=3)


async def refused(base_url: str) -> None:
    """Return when nobody listens there any more."""
    with anyio.fail_after(30), contextlib.suppress(ConnectionRefusedError):
        while True:
            (await connected(base_url)).sock.close()
            await anyio.sleep(0.02)


async def test_the_daemon_stops(broker: Broker, tmp_path: Path) -> None:
    """A call may go on while it drains; then its socket is told 1001, its session ended for consumers, and it exits 0."""
    async with stage(broker, tmp_path, ingress={"drain_seconds": 8.0}) as here:
        session = new_session()
        async with calling(here) as socket, anyio.create_task_group() as tasks:
            await tell(socket, {"type": "user_speech_started", "session": {"id": session}})  # nothing is due
            [event] = await here.events(session)
            tasks.start_soon(here.stop)
            await refused(here.daemon.webhook_url)
            await tell(socket, said(session))
            await here.events(session, count=2)
            await act(here, event, speak("goodbye"))
            assert (await heard(socket))["text"] == "goodbye"
            assert await socket.hear() == Closed(1001, "the server stops")
            await socket.close(1001)
        events = await here.events(session, count=3)
        assert (events[2].type, events[2].json["data"]) == ("session.ended", {"reason": "websocket_closed"})
        assert here.daemon.exit_code == 0


async def test_webhooks_still_work(here: Stage) -> None:
    """The same connection takes both."""
    session = new_session()
    assert (await post(here, {"type": "user_speech_started", "session": {"id": session}})).status == 204
    assert await here.events(session)
