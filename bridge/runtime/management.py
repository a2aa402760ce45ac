"""The management port: `/livez`, `/readyz` and `/metrics` as a raw ASGI application.

Answers hold the names of parts and reasons, never anything of calls; 404 for any other path. Which server carries it,
and on which port that nobody outside can reach, is the composition root's matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from bridge.runtime.health import Health
from bridge.runtime.metrics import CONTENT_TYPE, Metrics

Send: TypeAlias = Callable[[Any], Awaitable[None]]
App: TypeAlias = Callable[[Mapping[str, object], object, Send], Awaitable[None]]
"""What `bridge.ingress.asgi` calls the same; it stands above us."""

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"


def management_app(health: Health, metrics: Metrics) -> App:
    """The application over these two."""
    pages: dict[str, Callable[[], tuple[int, bytes, bytes]]] = {
        "/livez": lambda: _live(health),
        "/readyz": lambda: _ready(health, metrics),
        "/metrics": lambda: (200, CONTENT_TYPE.encode(), _measured(health, metrics)),
    }

    async def app(scope: Mapping[str, object], _receive: object, send: Send) -> None:
        if scope["type"] != "http":
            return
        page = pages.get(str(scope["path"]))
        status, content_type, body = page() if page else (404, _TEXT, b"/livez, /readyz or /metrics\n")
        headers = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _live(health: Health) -> tuple[int, bytes, bytes]:
    stuck = {name: f"has not moved for {seconds:.1f} s" for name, seconds in health.stuck().items()}
    return (503 if stuck else 200), _JSON, msgspec.json.encode({"live": not stuck, "stuck": stuck})


def _ready(health: Health, metrics: Metrics) -> tuple[int, bytes, bytes]:
    is_ready = not health.reasons()
    metrics.ready.set(is_ready)
    return (200 if is_ready else 503), _JSON, msgspec.json.encode({"ready": is_ready, "parts": health.parts()})


def _measured(health: Health, metrics: Metrics) -> bytes:
    metrics.ready.set(not health.reasons())
    return metrics.render()
