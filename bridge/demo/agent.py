"""A voice agent in one file, the example for consumers: it hears calls on `calls.events` and acts on `calls.actions`.

It promises an answer to every question of its own calls, be it "nothing to do", so that no provider waits in vain. It
imports nothing of the bridge, for a consumer knows two topics and JSON; retries, restarts and what callers would really
want to hear are left out.

    python -m bridge.demo.agent --bootstrap 127.0.0.1:9092
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from datetime import UTC, datetime
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

EVENTS, ACTIONS = "calls.events", "calls.actions"
NAME = "sample"

Message: TypeAlias = dict[str, Any]


def respond(event: Message) -> list[Message]:
    """The conversation: what to do now that this has happened. Nothing to do is an empty list."""
    match event["type"], event["data"]:
        case "session.started", _:
            return [speak("Hello, Doctor Example's practice. Am I speaking to the patient?")]
        case "user.spoke", {"text": str(text)} if "cancel" in text:
            return [speak("That is a pity. The appointment is cancelled. Goodbye!"), {"type": "hangup"}]
        case "user.spoke", {"text": str(text)} if "Tuesday" in text:
            return [speak("Thank you, we will see you on Tuesday. Goodbye!"), {"type": "hangup"}]
        case "user.dtmf", {"digit": "1"}:
            return [speak("Thank you for confirming. Goodbye!"), {"type": "hangup"}]
        case (("user.spoke" | "user.dtmf" | "user.silent"), _):
            return [speak("You have an appointment on Tuesday at ten. Will you come?")]
        case _:  # such as `assistant.finished`: our words were heard, now it is the user's turn
            return []


def speak(text: str) -> Message:
    """The action that says something. What else there is: `callbridge schema`."""
    return {"type": "speak", "text": text}


def is_ours(event: Message) -> bool:
    """Whether this agent is meant: a command's `metadata` comes back on the events of its call, and may name another."""
    return bool((event.get("metadata") or {}).get("agent", NAME) == NAME)


def question_of(event: Message) -> str | None:
    """The token to answer with: only where the provider waits, and not when its patience has ended meanwhile."""
    reply = event.get("reply")
    if reply is None or datetime.fromisoformat(reply["by"]) < datetime.now(UTC):
        return None
    return str(reply["token"])


async def run(bootstrap: str) -> None:
    """Hear and answer until cancelled."""
    # A group, so that several copies of this program share the calls. One session's events have one key, hence one
    # partition, one member, and their order. `earliest` loses nothing between two lives of the agent; questions that
    # are too old to be answered are skipped by `question_of`.
    consumer = AIOKafkaConsumer(
        EVENTS,
        bootstrap_servers=bootstrap,
        group_id=f"{NAME}-agent",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,  # the quick-start broker does not wake a waiting fetch; others do
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    async with producer, consumer:
        print(f"listening to {EVENTS}", flush=True)
        async for record in consumer:
            event: Message = json.loads(record.value)
            token = question_of(event)
            if token is None or not is_ours(event):
                continue
            answer = {"in_reply_to": token, "actions": respond(event)}
            # The event's key again: whoever writes an action for a session must put it where its events are.
            await producer.send_and_wait(ACTIONS, key=record.key, value=json.dumps(answer).encode())


async def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m bridge.demo.agent", description="A sample voice agent.")
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    agent = asyncio.ensure_future(run(parser.parse_args().bootstrap))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await agent


if __name__ == "__main__":
    asyncio.run(main())
