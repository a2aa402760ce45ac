"""What the load says: sipgate's webhooks of 1 KiB, as whole HTTP requests; and the commands."""

from __future__ import annotations

import json

from tests.support.daemon import WEBHOOK_SECRET

BODY_BYTES = 1024
PREFIX = "+491579"
"""Numbers of ours: seven digits follow."""


def session_start(session: str) -> bytes:
    """A call begins."""
    parties = {"direction": "inbound", "from_phone_number": "4915790000687", "to_phone_number": "4921155660"}
    return _request({"type": "session_start"}, session, **parties)


def call_start(session: str, number: str) -> bytes:
    """A call that we placed is answered."""
    callee = number.lstrip("+")
    parties = {"direction": "outbound", "from_phone_number": "4921155660", "to_phone_number": callee}
    return _request({"type": "session_start"}, session, **parties)


def session_end(session: str) -> bytes:
    """A call is over."""
    return _request({"type": "session_end"}, session)


def assistant_speak(session: str) -> bytes:
    """The assistant spoke: an event that asks for nothing."""
    return _request({"type": "assistant_speak", "duration_ms": 840, "speech_started_at": 1767225600120}, session)


def user_speak(session: str) -> bytes:
    """The user spoke: a question."""
    return _request({"type": "user_speak"}, session)


def command(command_id: str, number: str) -> bytes:
    """A `call.place`."""
    body = {"type": "call.place", "command_id": command_id, "connection": "demo", "to": number}
    return json.dumps({**body, "metadata": {"about": "a benchmark", "row": command_id}}).encode()


def number(suffix: int) -> str:
    """A phone number that is nobody's."""
    return f"{PREFIX}{suffix:07d}"


def _request(event: dict[str, object], session: str, **parties: str) -> bytes:
    event = {**event, "session": {"id": session, "account_id": "acc-4410", "phone_number": "4921155660", **parties}}
    event["text"] = ""
    event["text"] = "m" * (BODY_BYTES - len(json.dumps(event)))
    body = json.dumps(event).encode()
    head = (
        "POST /webhooks/demo HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"x-api-token: {WEBHOOK_SECRET}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
