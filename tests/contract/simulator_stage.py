"""What the tests of the simulated providers share: agents that answer webhooks, a raw client, and a stage for sipgate.

An agent is a function from an event to an answer; the client speaks HTTP by hand, so that nothing of an adapter or an
HTTP library stands between a test and the wire. As processes all simulators behave alike, so that test is here too.
"""

import asyncio
import json
import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import anyio

from bridge.demo.simulators import faults, http1
from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.history import History
from bridge.demo.simulators.script import Callee, Script
from bridge.demo.simulators.sipgate import DEMO_FLOW, Flow, SipgateSettings, SipgateSimulator

CALLEE = "4915790000687"
Event = dict[str, Any]
Answers = Callable[[Event], object]
Body = TypeVar("Body")
"""What stands in a webhook: JSON or a form."""


class Hearing(Protocol):
    """Who takes webhooks."""

    url: str

    async def handle(self, exchange: Exchange) -> faults.Reply:
        """One webhook."""
        ...


Hears = TypeVar("Hears", bound=Hearing)


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


@dataclass
class HooksAgent(ABC, Generic[Body]):
    """The other side of a provider with a URL for each hook: answers with what `answers` gives for a hook (None: 204)."""

    answers: Callable[[str, Body], object]
    url: str = ""
    posts: list[tuple[str, Body, Exchange]] = field(default_factory=list)

    @abstractmethod
    def read(self, body: bytes) -> Body:
        """What stands in a webhook."""

    @abstractmethod
    def written(self, given: object) -> Answer:
        """The answer that says this."""

    async def handle(self, exchange: Exchange) -> faults.Reply:
        """One webhook."""
        body = self.read(exchange.body)
        word = exchange.path.removeprefix("/hooks/").partition("/")[0]
        self.posts.append((word, body, exchange))
        given = self.answers(word, body)
        if isinstance(given, Answer | faults.Hang | faults.Close | faults.Reset):
            return given
        return Answer(status=204) if given is None else self.written(given)

    def of(self, word: str) -> list[Body]:
        """What came to one hook."""
        return [body for name, body, _ in self.posts if name == word]


@asynccontextmanager
async def listening(agent: Hears, path: str = "/webhooks/demo") -> AsyncIterator[Hears]:
    """The agent, which takes webhooks at this path now."""
    async with http1.serve(agent.handle) as server:
        agent.url = f"{server.base_url}{path}"
        yield agent


@asynccontextmanager
async def stage(answers: Answers, *callees: Callee, **settings: Any) -> AsyncIterator[tuple[SipgateSimulator, Agent]]:
    """A simulator with these callees, and an agent that answers like this."""
    async with listening(Agent(answers)) as agent:
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


# ---- simulators as processes


@asynccontextmanager
async def _process(
    module: str, *arguments: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"HOOK": "s3cret"},
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _address(output: asyncio.StreamReader, what: str) -> str:
    return (await output.readline()).decode().removeprefix(f"{what} on ").strip()


async def one_call_of_a_process(
    vendor: str, agent: Agent, dial: Callable[[str], Awaitable[tuple[int, object]]], *arguments: str, status: int = 200
) -> list[str]:
    """A simulator as a process, for one call: what happened, as its timeline says.

    It says where it listens (its control port first, where `arguments` ask for one) and ends with code 0 on SIGTERM.
    `dial` asks the address that it gets for a call, which is answered with `status`.
    """
    whole = ("--webhook-secret-env", "HOOK", "--speed", "200", "--timeline", *arguments)
    seen: list[str] = []
    async with (
        listening(agent, path="") as heard,
        _process(f"bridge.demo.simulators.{vendor}", "--webhook-url", heard.url, *whole) as (process, output),
    ):
        with anyio.fail_after(20):
            control = await _address(output, "control") if "--control-port" in arguments else None
            url = await _address(output, "listening")
            assert (await dial(url))[0] == status
            while not seen or seen[-1] != "call over":
                seen.append(json.loads(await output.readline())["what"])
            if control is not None:
                assert (await request(control, "GET", "/_sim/history"))[0] == 200
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    return seen
