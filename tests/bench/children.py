"""The other processes: floors (the least that does the same thing) and the consumer that answers.

    python -m tests.bench.children NAME '{"argument": value}'

Servers say `ready` and go on until they are ended; the rest do their work, print one JSON object, and end. CPU of the
latter is their own, taken around the work, start and imports apart.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiokafka
import anyio
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.kafka.settings import KafkaSettings
from bridge.bus.protocol import TopicPartition
from bridge.demo.broker import LOOPBACK
from bridge.ingress.asgi import App, Receive, Scope, Send, read_body, respond
from bridge.ingress.guarded import ServerLimits
from bridge.ingress.server import HttpServer
from bridge.ledger.partition import LedgerPartition, LedgerSettings
from bridge.providers.http import Answered, HttpClient
from bridge.providers.settings import HttpSettings
from tests.bench import measure
from tests.bench.stage import READY, Json

MAX_BODY_BYTES = 1024 * 1024
BATCH_BYTES = KafkaSettings(bootstrap_servers=["a:1"]).max_batch_bytes
RECORD_BYTES = 700
_SELF = os.getpid()


class Session(msgspec.Struct):
    """Of a webhook."""

    id: str


class Webhook(msgspec.Struct):
    """What a script would decode of one."""

    type: str
    session: Session
    text: str = ""


class Reply(msgspec.Struct):
    """Of an event that waits."""

    token: str


class Event(msgspec.Struct):
    """What the echo decodes of one."""

    reply: Reply | None = None


# -- servers ----------------------------------------------------------------------------------------------------------


async def asgi(port: int) -> None:
    """Floor: our guarded server and nothing behind it: read the body, answer 204."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, MAX_BODY_BYTES)
        await respond(send, 204)

    await _serve(app, port)


async def script(port: int, bootstrap: str, topic: str) -> None:
    """Floor: the script one would write: decode, send, wait for the acknowledgement, answer 204."""
    decoder = msgspec.json.Decoder(Webhook)
    async with _producer(bootstrap) as producer:

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            body = await read_body(receive, MAX_BODY_BYTES)
            webhook = decoder.decode(body)
            await (await producer.send(topic, body, webhook.session.id.encode()))
            await respond(send, 204)

        await _serve(app, port)


async def holding(port: int, bootstrap: str, target: str, source: str) -> None:
    """Floor of a turn: the same script holds the request until its record comes back, and answers 200 with it."""
    decoder = msgspec.json.Decoder(Webhook)
    waiting: dict[bytes, asyncio.Future[bytes]] = {}
    async with _producer(bootstrap) as producer, _tail(bootstrap, source) as consumer:

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            body = await read_body(receive, MAX_BODY_BYTES)
            key = decoder.decode(body).session.id.encode()
            waiting[key] = future = asyncio.get_running_loop().create_future()
            await (await producer.send(target, body, key))
            await respond(send, 200, (await future)[:RECORD_BYTES])

        hearing = asyncio.create_task(_resolve(consumer, waiting))
        await _serve(app, port)
        hearing.cancel()


async def _resolve(consumer: Any, waiting: dict[bytes, asyncio.Future[bytes]]) -> None:
    """Give each record to whom waits for its key."""
    while True:
        for records in (await consumer.getmany(timeout_ms=500)).values():
            for record in records:
                future = waiting.pop(record.key, None)
                if future is not None:
                    future.set_result(record.value)


async def _serve(app: App, port: int) -> None:
    server = HttpServer(app, host=LOOPBACK, port=port, limits=ServerLimits(), on_reject=print)
    async with anyio.create_task_group() as tasks:
        await tasks.start(server.serve)
        print(READY, flush=True)
        await _until_ended()
        server.stop()


# -- the consumer that answers ----------------------------------------------------------------------------------------


async def agent(bootstrap: str, events: str, actions: str) -> None:
    """Answers every question at once with a sentence, as fast as a consumer can."""
    decoder = msgspec.json.Decoder(Event)
    said = [{"type": "speak", "text": "You have an appointment on Tuesday at ten. Will you come?"}]

    def answer(value: bytes) -> bytes | None:
        reply = decoder.decode(value).reply
        return None if reply is None else msgspec.json.encode({"in_reply_to": reply.token, "actions": said})

    await _echo(bootstrap, events, actions, answer)


async def pong(bootstrap: str, source: str, target: str) -> None:
    """Floor: the same without reading: every value goes back as it came."""
    await _echo(bootstrap, source, target, lambda value: value)


async def _echo(bootstrap: str, source: str, target: str, answer: Callable[[bytes], bytes | None]) -> None:
    async with _producer(bootstrap) as producer, _tail(bootstrap, source) as consumer:
        print(READY, flush=True)
        ending = asyncio.create_task(_until_ended())
        while not ending.done():
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    value = answer(record.value)
                    if value is not None:
                        await producer.send(target, value, record.key)


# -- floors that measure themselves -----------------------------------------------------------------------------------


async def ping(bootstrap: str, target: str, source: str, at_once: int, seconds: float) -> Json:
    """Floor of a turn: so many records on their way at once, each stored by one process and sent back by another."""
    waiting: dict[bytes, asyncio.Future[bytes]] = {}
    latencies: list[float] = []
    value = b"x" * RECORD_BYTES
    async with _producer(bootstrap) as producer, _tail(bootstrap, source) as consumer:
        loop = asyncio.get_running_loop()

        async def player(key: bytes, until: float) -> None:
            while (began := time.perf_counter()) < until:
                waiting[key] = future = loop.create_future()
                await (await producer.send(target, value, key))
                await future
                latencies.append(time.perf_counter() - began)

        hearing = asyncio.create_task(_resolve(consumer, waiting))
        keys = [b"demo/session-%d" % number for number in range(at_once)]
        await asyncio.gather(*(player(key, 0.5 + time.perf_counter()) for key in keys))  # to warm up
        latencies.clear()
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(player(key, began + seconds) for key in keys))
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        hearing.cancel()
    quantiles = {name: measure.quantile(latencies, part) for name, part in (("p50", 0.5), ("p99", 0.99))}
    return {"count": len(latencies), "cpu": cpu, "seconds": took, **quantiles}


async def posts(base_url: str, count: int, at_once: int, bootstrap: str | None = None, topic: str = "") -> Json:
    """Floor of a command: the same POST by the same client; with `bootstrap` beside four acknowledged records."""
    value = b"x" * RECORD_BYTES
    body = b'{"billingDevice":"e2","toPhoneNumber":"4921155660"}'
    headers = {"content-type": "application/json"}
    numbers = iter(range(count))
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpClient(base_url, HttpSettings(max_connections=at_once)))
        producer = None if bootstrap is None else await stack.enter_async_context(_producer(bootstrap))

        async def store(number: int, times: int) -> None:
            if producer is None:
                return
            for _ in range(times):
                await (await producer.send(topic, value, b"%d" % number))

        async def worker() -> None:
            for number in numbers:
                await store(number, 2)
                answer = await http.send("POST", "/v3/ai-flows/demo-flow/call", headers=headers, content=body)
                if not isinstance(answer, Answered):
                    raise TypeError(f"a POST came to {answer}")
                await store(number, 2)

        await http.send("POST", "/", content=body)
        cpu, began = time.process_time(), time.monotonic()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        return {"count": count, "cpu": time.process_time() - cpu, "seconds": time.monotonic() - began}


# -- reading a ledger -------------------------------------------------------------------------------------------------


async def ledger_open(bootstrap: str, topic: str) -> Json:
    """A lane's start: `LedgerPartition.open` on partition 0."""
    bus = KafkaBus(KafkaSettings(bootstrap_servers=[bootstrap]))
    async with bus.producer("bench") as producer, bus.partition_reader() as reader:
        partition = TopicPartition(topic, 0)
        ledger = LedgerPartition(partition, producer, reader, owner="bench", settings=LedgerSettings())
        before = measure.rss_mib(_SELF)
        cpu, began = time.process_time(), time.monotonic()
        await ledger.open(at_ms=1)
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        return {
            "records": ledger.state.next_offset,
            "entries": len(ledger.state.entries),
            "cpu": cpu,
            "seconds": took,
            "rss_before": before,
            "rss": measure.rss_mib(_SELF),
        }


async def ledger_read(bootstrap: str, topic: str) -> Json:
    """Floor: the same records through aiokafka, looked at by nobody."""
    partition = aiokafka.TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    consumer.assign([partition])
    async with consumer:
        end = (await consumer.end_offsets([partition]))[partition]
        before = measure.rss_mib(_SELF)
        cpu, began = time.process_time(), time.monotonic()
        count = 0
        while await consumer.position(partition) < end:
            count += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
        took, cpu = time.monotonic() - began, time.process_time() - cpu
        return {
            "records": count,
            "entries": 0,
            "cpu": cpu,
            "seconds": took,
            "rss_before": before,
            "rss": measure.rss_mib(_SELF),
        }


# -- shared -----------------------------------------------------------------------------------------------------------


def _producer(bootstrap: str) -> Any:
    """As the bus makes it."""
    return AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0, max_batch_size=BATCH_BYTES)


@asynccontextmanager
async def _tail(bootstrap: str, topic: str) -> AsyncIterator[Any]:
    """A consumer that reads all partitions from their ends on."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100)
    async with consumer:
        numbers = await consumer._client._wait_on_metadata(topic)
        partitions = [aiokafka.TopicPartition(topic, number) for number in numbers]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for each in partitions:
            await consumer.position(each)
        yield consumer


async def _until_ended() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


_SERVERS: Mapping[str, Callable[..., Awaitable[None]]] = {
    "asgi": asgi,
    "script": script,
    "holding": holding,
    "agent": agent,
    "pong": pong,
}
_WORKERS: Mapping[str, Callable[..., Awaitable[Json]]] = {
    "ping": ping,
    "posts": posts,
    "ledger-open": ledger_open,
    "ledger-read": ledger_read,
}


async def _main(name: str, arguments: Json) -> None:
    if name in _SERVERS:
        await _SERVERS[name](**arguments)
    else:
        print(json.dumps(await _WORKERS[name](**arguments)), flush=True)


if __name__ == "__main__":
    anyio.run(_main, sys.argv[1], json.loads(sys.argv[2]), backend_options={"use_uvloop": True})
