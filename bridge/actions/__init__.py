"""FLOW 3: a provider asks ─▶ Kafka ─▶ a consumer's action ─▶ the HTTP answer.

`relay` opens a question (`pending`, pure; `tokens` sign it), publishes its event, and waits ◀─ `replies` tails the
actions topic on every replica and resolves ◀─ consumers. `verdicts` says what became of each record of actions, and
`keeper` sees to it that none is left without a verdict.

Invariants: a question is open before its event is published; every question is closed on every path; an answer is
taken only with the question's own token, or by session alone where one question is open.
"""
