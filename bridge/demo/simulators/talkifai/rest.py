"""TalkifAI's one REST endpoint, `POST /telephony/outbound-call`: what it takes and what it refuses.

It promises to be as strict as the documentation reads, so that an adapter that sends something else is seen: a `+` that
was not percent-encoded arrives as a space. What happens to a good order is left to the platform.
"""

from __future__ import annotations

import hmac
import re

import msgspec

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.talkifai.settings import Agent, TalkifaiSettings

PATH = "/telephony/outbound-call"
_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}")


class Order(msgspec.Struct, frozen=True):
    """A request to dial with nothing wrong about it."""

    to_number: str
    from_number: str
    agent: Agent


class Refusal(msgspec.Struct, frozen=True):
    """A request that is not taken. `is_breach`: the adapter is wrong, not its configuration."""

    status: int
    body: object
    number: str | None = None
    is_breach: bool = False

    def answer(self) -> Answer:
        """As said on the wire."""
        return Answer(status=self.status, body=msgspec.json.encode(self.body).decode())


def read(exchange: Exchange, settings: TalkifaiSettings) -> Order | Refusal:
    """What a request to the endpoint asks for."""
    if not _is_known(exchange, settings):
        return Refusal(401, {"success": False, "error": "Invalid API key", "code": "invalid_api_key"})
    to_number, from_number = (exchange.query.get(name) for name in ("to_number", "from_number"))
    missing = [name for name in ("to_number", "from_number") if name not in exchange.query]
    if to_number is None or from_number is None:
        entries = [{"loc": ["query", name], "msg": "Field required", "type": "missing"} for name in missing]
        return Refusal(422, {"detail": entries}, is_breach=True)
    digits = to_number.lstrip("+ ")
    for number in (to_number, from_number):
        if not _NUMBER.fullmatch(number):
            return Refusal(400, {"detail": "Invalid phone number format: E.164 with +"}, digits, is_breach=True)
    if exchange.body:
        return Refusal(400, {"detail": "the two numbers stand in the query"}, digits, is_breach=True)
    agent = settings.numbers.get(from_number)
    if agent is None:
        return Refusal(404, {"detail": "Phone number not found"}, digits)
    if not agent.speaks:
        return Refusal(400, {"detail": "Text agents cannot make voice calls"}, digits)
    return Order(to_number, from_number, agent)


def _is_known(exchange: Exchange, settings: TalkifaiSettings) -> bool:
    bearer = exchange.headers.get("authorization", "").encode()
    key = exchange.headers.get("x-api-key", "").encode()
    by_bearer = hmac.compare_digest(bearer, f"Bearer {settings.token}".encode())
    by_key = hmac.compare_digest(key, settings.token.encode())
    return {"bearer": by_bearer, "x-api-key": by_key, "either": by_bearer or by_key}[settings.auth]
