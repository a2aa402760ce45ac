"""The closed list of field names in log lines: one name for one thing, everywhere.

A test walks the source and refuses a field that is not in this table; add it here with its meaning first. Events are
named `thing.happened`; what the lines are made of and where they go is the matter of `logging` and `log_sink`.
"""

from __future__ import annotations

from collections.abc import Mapping

GLOSSARY: Mapping[str, str] = {
    # the line itself
    "event": "what happened: thing.happened",
    "level": "debug, info, warning, error",
    "timestamp": "UTC, RFC 3339, milliseconds",
    "error": "type and scrubbed message of an exception",
    "traceback": "where the exception came from; only on unexpected ones",
    "detail": "scrubbed words for the person who must act",
    "reason": "why, from a closed list where there is one",
    "found": "what stood there, without personal data",
    "allowed": "what may stand there",
    "entries": "how many commands a lane holds in memory",
    "in_flight": "how many commands were being worked on",
    "count": "how many, of what the event says",
    # who and what
    "command_id": "the caller's idempotency key",
    "call_id": "our id of the call",
    "provider_call_id": "the provider's id of the call",
    "connection": "a named provider account of the configuration",
    "provider": "the kind of provider, such as sipgate",
    "session": "the provider's id of the conversation",
    "event_id": "id of an event",
    "event_type": "our name of an event: user.spoke",
    "provider_type": "the provider's name of an event",
    "action_id": "id of a record of actions",
    "action_type": "speak, hangup, …",
    "token": "the first characters of a reply token",
    # decisions and ends
    "decision": "what the lane decided about a command",
    "outcome": "accepted, refused, not_sent, unknown; or how a unit of work ended",
    "status": "an HTTP status, or the status of an action result",
    "result": "type of the published result",
    "attempt": "the number of this dial of the command, from 1",
    "attempts": "how many dials the command took",
    "not_sent": "why each earlier attempt did not dial, the first one first",
    "settled_by": "answer, webhook, lookup",
    "answered_with": "action, fallback, …",
    "provider_status": "the HTTP status of a provider's answer",
    # Kafka
    "topic": "a topic",
    "partition": "a partition",
    "partitions": "several partitions",
    "offset": "an offset",
    "epoch": "a lane's epoch: the offset of its fence",
    "key": "a record's key, where it is an id of ours",
    "read": "how many records were read",
    "group_id": "a consumer group",
    "client": "the class of a Kafka client",
    "field": "path of the offending field",
    "bytes": "size",
    # time
    "duration_ms": "how long the unit of work took",
    "seconds": "a deadline that passed",
    "wait_ms": "how long until the next try",
    "late_ms": "by how much a deadline was missed",
    "lag_ms": "by how much the event loop was late",
    # the process
    "part": "a part of the daemon, as in /readyz",
    "parts": "several of them",
    "task": "a task of the supervisor",
    "signal": "a signal of the operating system",
    "exit_code": "the process's exit code",
    "version": "of the bridge",
    "file": "the configuration file",
    "path": "a place in a file, or of a URL",
    "host": "an address",
    "port": "a port",
    "library": "the library whose own log line this is",
}

# Names of ours and of others that may look like phone numbers and are none; everything else is scrubbed.
IDS: frozenset[str] = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "command_id",
        "call_id",
        "provider_call_id",
        "connection",
        "provider",
        "session",
        "event_id",
        "event_type",
        "action_id",
        "topic",
        "group_id",
        "version",
        "file",
        "host",
    }
)
