"""FLOW 3: a provider asks ─▶ Kafka ─▶ a consumer's action ─▶ the HTTP answer, or another way to the call.

`relay` opens a question (`pending`, pure; `tokens` sign it), publishes its event, and waits ◀─ `replies` tails the
actions topic on every replica and resolves ◀─ consumers; which replica takes an action that names no question is decided
by the log (`claims`, pure). `verdicts` says what became of each record of actions.

What no question took is the `keeper`'s, one of whom sees all that is said of a session: `share` (pure, over `sessions`)
decides what becomes of each record, `errands` does it: live control, a verdict, or a note (`notes`, by `teller`) to the replica that
holds the session's next question. `progress` (pure) says what may be committed, so that the next keeper knows it all.

Invariants: a question is open before its event is published; every question is closed on every path; an answer is
taken only with the question's own token, or by session alone where one question is open; each record has one verdict.

`silence` and `watchdog` notice calls that never end, `listeners` whether anybody answers, `sockets` reaches sessions
that have an open WebSocket.
"""
