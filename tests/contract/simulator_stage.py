"""What the tests of the simulated sipgate share: a stage with an agent that answers webhooks, and a raw client.

The agent is a function from an event to an answer; the client speaks HTTP by hand, so that nothing of an adapter or an
HTTP library stands between a test and the wire.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bridge.demo.simulators import faults, http1
from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.history import History
from bridge.demo.simulators.script import Callee, Script
from bridge.demo.simulators.sipgate import DEMO_FLOW, Flow, SipgateSettings, SipgateSimulator

CALLEE = "4915790000687"
Event = dict[str, Any]
Answers = Callable[[Event], object]


@dataclass
class Agent:
    """The other side: hears events, answers with what `answers` gives (None: 204, bytes: a 200 as they are)."""

    answers: Answers
    url: str = ""
    events: list[Event] = field(default_factory=list)
    requests: list[Exchange] = field(default_factory=list)

    async def handle(self, exchange: Exchange) -> faults.Reply:
        """One webhook."""
        event = json.loads(exchange.body)
        self.requests.append(exchange)
        self.events.append(event)
        given = self.answers(event)
        match given:
            case None:
                return Answer(status=204)
            case bytes():
                return Answer(status=200, body=given.decode())
            case Answer() | faults.Hang():
                return given
            case _:
                return Answer(status=200, body=json.dumps(given))

    @property
    def heard(self) -> list[str]:
        """The types of the events so far."""
        return [event["type"] for event in self.events]


@asynccontextmanager
async def stage(answers: Answers, *callees: Callee, **settings: Any) -> AsyncIterator[tuple[SipgateSimulator, Agent]]:
    """A simulator with these callees, and an agent that answers like this."""
    agent = Agent(answers)
    async with http1.serve(agent.handle) as server:
        agent.url = f"{server.base_url}/webhooks/demo"
        flow = Flow(webhook_url=agent.url, webhook_secret="s3cret")
        whole: dict[str, Any] = {
            "flows": (flow, Flow(id="numberless", phone_number=None)),
            "script": Script(callees=callees),
            "speed": 100.0,
            **settings,
        }
        async with SipgateSimulator(SipgateSettings(**whole)) as simulator:
            yield simulator, agent


def action(event: Event, kind: str, **fields: object) -> dict[str, object]:
    """An action in answer to this event."""
    return {"type": kind, "session_id": event["session"]["id"], **fields}


def over(count: int = 1) -> Callable[[History], bool]:
    """So many calls are over and all their webhooks answered."""

    def holds(history: History) -> bool:
        ended = [call for call in history.calls.values() if call.ended and call.webhooks == call.answers]
        return len(ended) >= count

    return holds


async def request(url: str, method: str, path: str, *, body: object = None, **headers: str) -> tuple[int, bytes]:
    """One raw request; the status and the body."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        async with asyncio.timeout(5):
            answer = await reader.read()
    finally:
        writer.transport.abort()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else 0), rest


async def dial(url: str, number: str = CALLEE, *, flow: str = DEMO_FLOW, **changes: Any) -> tuple[int, bytes]:
    """A request to dial, right but for the changes."""
    body = {"billingDevice": "e2", "toPhoneNumber": number} | changes.pop("body", {})
    headers = {"Authorization": "Bearer sg-token", "Content_Type": "application/json"} | changes
    return await request(url, "POST", f"/v3/ai-flows/{flow}/call", body=body, **headers)


def silent(_: Event) -> None:
    """Answer nothing."""


def reminder(event: Event) -> object:
    """The agent of the demo."""
    match event["type"], event.get("text", event.get("digit")):
        case "session_start", _:
            return action(event, "speak", text="Hello, your appointment is on Tuesday. Will you come?")
        case "user_speak", str(text) if text.startswith("Yes"):
            return [action(event, "speak", text="Good. Goodbye!"), action(event, "hangup")]
        case (("user_speak" | "dtmf_received" | "user_input_timeout"), _):
            return action(event, "speak", text="Pardon?", user_input_timeout_seconds=5)
        case _:
            return None
