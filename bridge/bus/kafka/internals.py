"""Everything that reaches into aiokafka 0.14's private parts, because it has no public way: stopping it, mostly.

Promises that a client given to `stop` holds no task and no connection afterwards, whatever the broker does; the
numbers are the rows of measured limits in section 2 of the notes on Kafka clients. Nothing here knows our ports.
The dependency is pinned below 0.15: look here first when that changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import anyio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, ProducerClosed

from bridge.runtime.logging import get_logger

IMPOLITE_SECONDS: Final = 1.0
"""What each step may take once being polite has failed; none of them waits for a broker."""
CANCEL_ATTEMPTS: Final = 3
"""Some of aiokafka's tasks answer a cancellation by waiting for another of its tasks."""

_log = get_logger()


# -- writing ----------------------------------------------------------------------------------------------------------

_send = AIOKafkaConnection.send


def _send_or_break(connection: Any, request: Any, expect_response: bool = True) -> Awaitable[Any]:
    """`send`, for uvloop: writing to a transport that a reset has just closed raises RuntimeError there.

    asyncio's own transports swallow that write, aiokafka expects an OSError or nothing; anything else ends its sender
    and fetcher for ever, and with them the process. The connection is broken, and a broken one is opened again.
    """
    try:
        sent: Awaitable[Any] = _send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} broken: {error}") from error
    return sent


AIOKafkaConnection.send = _send_or_break


# -- closing ----------------------------------------------------------------------------------------------------------

_close = AIOKafkaConnection.close


def _close_at_once(connection: Any, reason: Any = None, exc: Any = None) -> Any:
    """`close`, for TLS: a polite end waits for the broker's, up to 30 s after everything else has been closed.

    Nothing is lost by the haste: whatever we wrote and need has been answered, or its caller was told that it was not.
    """
    writer = connection._writer
    closed = _close(connection, reason, exc)
    if writer is not None and writer.get_extra_info("sslcontext") is not None:
        writer.transport.abort()
    return closed


AIOKafkaConnection.close = _close_at_once


# -- stopping ---------------------------------------------------------------------------------------------------------


async def stop(client: object, *, polite_seconds: float) -> None:
    """Close a producer, consumer or admin client: politely within the deadline, then without asking the broker.

    A consumer's `stop` raises a CancelledError of its own making and then leaves its connections open (row 2), a
    producer's waits for batches that can't be stored (row 1), and both break when they are cancelled. So `stop` runs
    in a task of its own that nobody's cancellation reaches, and what it leaves behind is swept up.
    """
    with anyio.CancelScope(shield=True):
        task = asyncio.ensure_future(_polite_stop(client))
        await asyncio.wait({task}, timeout=polite_seconds)
        if not task.done():
            _log.warning("kafka.stop_timed_out", client=type(client).__name__, seconds=polite_seconds)
        elif not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("kafka.stop_failed", client=type(client).__name__, error=repr(error))
        await _close_connections(_transport(client))
        if isinstance(client, AIOKafkaProducer):
            client._message_accumulator.fail_all(ProducerClosed())
        await _end([task, *_tasks(client)])


async def finish(task: asyncio.Future[Any], *, seconds: float) -> None:
    """Let a task end by itself, else end it; also while being cancelled."""
    with anyio.CancelScope(shield=True):
        await asyncio.wait({task}, timeout=seconds)
        await _end([task])


async def _polite_stop(client: Any) -> None:
    await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())


def _transport(client: Any) -> Any:
    return client.client if isinstance(client, AIOKafkaProducer) else client._client


async def _close_connections(transport: Any) -> None:
    """Harmless when it was done already. Who waits for metadata of a closed client would wait for ever."""
    closing = asyncio.ensure_future(transport.close())
    await asyncio.wait({closing}, timeout=IMPOLITE_SECONDS)
    await _end([closing])
    waiting = transport._md_update_fut
    if waiting is not None and not waiting.done():
        waiting.set_result(False)


def _tasks(client: Any) -> Iterable[asyncio.Future[Any]]:
    if isinstance(client, AIOKafkaProducer):
        return _present([client._sender.sender_task])
    if isinstance(client, AIOKafkaConsumer):
        coordinator, fetcher = client._coordinator, client._fetcher
        names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
        tasks = [getattr(coordinator, name, None) for name in names]
        return _present([*tasks, *((fetcher._fetch_task, *fetcher._pending_tasks) if fetcher else ())])
    return ()


def _present(tasks: Iterable[asyncio.Future[Any] | None]) -> list[asyncio.Future[Any]]:
    return [task for task in tasks if task is not None]


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    left = set(tasks)
    for _ in range(CANCEL_ATTEMPTS):
        left = {task for task in left if not task.done()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=IMPOLITE_SECONDS)


# -- looking ----------------------------------------------------------------------------------------------------------


class PartitionState(NamedTuple):
    """What a consumer knows of a partition without asking: where it stands, and what the last answer said."""

    position: int | None
    highwater: int | None
    answered_at_ms: int | None


def partition_state(consumer: Any, partition: tuple[str, int]) -> PartitionState:
    """The state of an assigned partition. The answer's time changes with every answer that was accepted."""
    state = consumer._subscription.subscription.assignment.state_value(partition)
    return PartitionState(state._position, state.highwater, state.timestamp)


def sender_died(producer: Any) -> bool:
    """Whether the task that stores batches has ended; such a producer never stores anything again."""
    task = producer._sender.sender_task
    return bool(task is not None and task.done())


def coordination_died(consumer: Any) -> bool:
    """Whether the task that keeps a member in its group has ended; such a member never gets partitions again."""
    return bool(consumer._coordinator._coordination_task.done())


def is_member(consumer: Any) -> bool:
    """Whether a member has a generation. A commit without one is taken by a group that happens to be empty (row 10)."""
    return bool(consumer._coordinator.generation >= 0)


def raise_errors(consumer: Any) -> None:
    """Raise what the group's coordination wants its user to know, as `getmany` does."""
    consumer._coordinator.check_errors()


def last_answer(consumer: Any) -> float:
    """When any broker last sent anything to this client, by the monotonic clock."""
    return max((float(conn._last_action) for conn in consumer._client._conns.values()), default=0.0)


def topic_known(client: Any, topic: str) -> Awaitable[set[int]]:
    """Wait until the partitions of a topic are known."""
    waiting: Awaitable[set[int]] = client._client._wait_on_metadata(topic)
    return waiting


# -- joining ----------------------------------------------------------------------------------------------------------


def let_joins_wait(consumer: Any, *, seconds: float) -> None:
    """Give requests to the group's coordinator a time-out of their own.

    A JoinGroup is answered when the other members have given their partitions back, so up to the rebalance time-out
    later. aiokafka knows one time-out a client; with a shorter one it hangs up, joins as yet another member, and the
    broker waits for the one that hung up. The coordinator has a connection of its own, so only that waits longer.
    """
    client = consumer._client
    get_conn = client._get_conn

    async def patient(node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        conn = await get_conn(node_id, group=group, no_hint=no_hint)
        if conn is not None and group == ConnectionGroup.COORDINATION:
            conn._request_timeout = seconds
        return conn

    client._get_conn = patient


# -- committing -------------------------------------------------------------------------------------------------------


def retrieve_commit_errors(consumer: Any) -> None:
    """Let a commit that was cut off fail in silence.

    aiokafka shields the request; when its caller has gone, nobody looks at the error and the event loop complains.
    """
    coordinator = consumer._coordinator
    commit = coordinator._do_commit_offsets

    def committing(assignment: Any, offsets: Any) -> asyncio.Future[None]:
        task: asyncio.Future[None] = asyncio.ensure_future(commit(assignment, offsets))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    coordinator._do_commit_offsets = committing


# -- polling ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def polling(consumer: Any) -> Iterator[None]:
    """Count the block as activity of the member (row 10), and count it once.

    aiokafka's own `fetch_context` has no `finally`: a `getmany` that is cancelled or raises leaves its count one too
    high, and from then on a member that stopped polling is never noticed.
    """
    subscription = consumer._subscription
    subscription._fetch_count += 1
    try:
        yield
    finally:
        subscription._fetch_count = 0
        subscription._last_fetch_ended = time.monotonic()
