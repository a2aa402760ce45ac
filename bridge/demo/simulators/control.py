"""The simulators' own HTTP interface under `/_sim`, for tests and demos that run them as a process.

It promises to show what the history holds and to change the script, the webhooks' receiver and held requests while a
simulator runs. It is the same for every vendor and no part of any vendor's API.

    GET  /_sim/history?limit=100    exact counts, and the most recent of everything
    GET  /_sim/calls?number=N       all that is known of one number
    POST /_sim/inbound              {"from": N, "flow": optional}: somebody calls; answers {"session": id}
    PUT  /_sim/script               a script in JSON, or in TOML with that Content-Type; counting begins anew
    PUT  /_sim/webhook              {"url": U, "flow": optional}: where webhooks go from now on
    POST /_sim/release              ends every hang and delay that is under way
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from bridge.demo.simulators import script
from bridge.demo.simulators.connection import Exchange
from bridge.demo.simulators.faults import Answer
from bridge.demo.simulators.history import History

PREFIX = "/_sim/"
_SHOWN = 100


class Controlled(Protocol):
    """What a simulator offers."""

    @property
    def history(self) -> History:
        """Its memory."""
        ...

    def inbound(self, caller: str, *, flow_id: str | None = None) -> str:
        """Somebody calls; the new session. An unknown flow is a ValueError."""
        ...

    def play(self, new: script.Script) -> None:
        """Follow this script from now on."""
        ...

    def point_webhooks_at(self, url: str, *, flow_id: str | None = None) -> None:
        """Send webhooks there from now on. An unusable URL or an unknown flow is a ValueError."""
        ...

    def release(self) -> None:
        """End hangs and delays."""
        ...


class _Inbound(msgspec.Struct, forbid_unknown_fields=True):
    caller: str = msgspec.field(name="from")
    flow: str | None = None


class _Webhook(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    flow: str | None = None


def handle(simulator: Controlled, exchange: Exchange) -> Answer:
    """Answer one request to `/_sim`."""
    try:
        return _route(simulator, exchange)
    except ValueError as error:  # msgspec's errors are ValueErrors too
        return _json({"error": str(error)}, status=400)


def _route(simulator: Controlled, exchange: Exchange) -> Answer:
    query, body = exchange.query, exchange.body
    match exchange.method, exchange.path.removeprefix(PREFIX):
        case "GET", "history":
            return _json(simulator.history.snapshot(limit=int(query.get("limit", _SHOWN))))
        case "GET", "calls":
            return _json(simulator.history.of_number(query.get("number", "")))
        case "POST", "inbound":
            asked = msgspec.json.decode(body, type=_Inbound)
            return _json({"session": simulator.inbound(asked.caller, flow_id=asked.flow)}, status=201)
        case "PUT", "script":
            is_toml = "toml" in exchange.headers.get("content-type", "")
            simulator.play(script.parse(body.decode(), form="toml" if is_toml else "json"))
            return Answer(status=204)
        case "PUT", "webhook":
            target = msgspec.json.decode(body, type=_Webhook)
            simulator.point_webhooks_at(target.url, flow_id=target.flow)
            return Answer(status=204)
        case "POST", "release":
            simulator.release()
            return Answer(status=204)
        case _:
            return _json({"error": "no such thing under /_sim"}, status=404)


def _json(value: object, *, status: int = 200) -> Answer:
    return Answer(status=status, body=msgspec.json.encode(value).decode())
