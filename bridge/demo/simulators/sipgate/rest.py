"""sipgate's one REST endpoint, `POST /v3/ai-flows/{flow}/call`: what it takes and what it refuses.

It promises to be as strict as the documentation reads, so that an adapter that sends something else is seen. What
happens to a good order is left to the platform.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

import msgspec

from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.sipgate.settings import Flow

_PATH = re.compile(r"/v3/ai-flows/([^/]+)/call")
_NUMBER = re.compile(r"[1-9][0-9]{6,14}")
_DEVICE = re.compile(r"[a-z][0-9]{1,6}")


class Order(msgspec.Struct, frozen=True):
    """A request to dial with nothing wrong about it."""

    flow: Flow
    number: str


class Refusal(msgspec.Struct, frozen=True):
    """A request to dial that the platform does not take. `is_breach`: the adapter is wrong, not its configuration."""

    status: int
    reason: str
    number: str | None = None
    is_breach: bool = True

    def answer(self) -> Answer:
        """As said on the wire; the vendor documents no body, this one is for people."""
        return Answer(status=self.status, body=msgspec.json.encode({"message": self.reason}).decode())


class _Body(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    billing_device: str
    to_phone_number: str


def is_dial(path: str) -> bool:
    """Whether this path is the endpoint's."""
    return _PATH.fullmatch(path) is not None


def read(exchange: Exchange, *, token: str, flows: Mapping[str, Flow]) -> Order | Refusal:
    """What a request to the endpoint asks for."""
    found = _PATH.fullmatch(exchange.path)
    if found is None or exchange.method != "POST":
        return Refusal(405 if found else 404, "the endpoint is POST /v3/ai-flows/{flow}/call")
    presented = exchange.headers.get("authorization", "")
    if not hmac.compare_digest(presented.encode(), f"Bearer {token}".encode()):
        return Refusal(401, "the bearer token is missing or wrong", is_breach=False)
    flow = flows.get(found[1])
    if flow is None:
        return Refusal(404, "AI flow not found", is_breach=False)
    if not exchange.headers.get("content-type", "").startswith("application/json"):
        return Refusal(415, "Content-Type must be application/json")
    try:
        body = msgspec.json.decode(exchange.body, type=_Body)
    except msgspec.DecodeError as error:  # covers what is no JSON and what is none of ours
        return Refusal(400, str(error))
    return _read_body(body, flow)


def _read_body(body: _Body, flow: Flow) -> Order | Refusal:
    number = body.to_phone_number
    if not _NUMBER.fullmatch(number):
        return Refusal(400, "toPhoneNumber must be E.164 digits without +", number.lstrip("+") or None)
    if not _DEVICE.fullmatch(body.billing_device):
        return Refusal(422, "billingDevice must be a device suffix such as e2", number)
    if flow.phone_number is None:
        return Refusal(400, "the AI flow has no phone_number configured", number, is_breach=False)
    return Order(flow, number)
