"""HTTP in: a socket becomes a request with limits, a request becomes a webhook that somebody answers.

The way of one request::

    bytes ─▶ server (listens, drains) ─▶ guarded (caps, deadlines) ─▶ asgi (body, answer) ─▶ router ─▶ passage

A request for a WebSocket goes the same way up to the router; accepted, its connection is a `websocket`'s, and each of
its frames goes through `dialogues` into the same `passage`: identify, publish, ask, acknowledge.

Invariants: nothing a peer sends or withholds costs more than `ServerLimits` says; an answer is never written where the
answer to another request is due; `stop()` loses no request that had arrived before it, unless `drain_seconds` cut it.
"""
