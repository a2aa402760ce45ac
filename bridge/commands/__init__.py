"""FLOW 1: Kafka ─▶ provider ─▶ Kafka.

`intake` polls and commits ─▶ one `lane` a partition ─▶ `dispatch` orders the steps of one command: decide (`policy`,
pure) ─▶ claim in the ledger ─▶ dial once ─▶ settle ─▶ publish (`results`) ─▶ the offset may be committed.

Invariants: nothing that can refuse stands behind the claim; nothing is dialled without a claim that counts; an offset
is committed only when its command's result is acknowledged, or the command lives in the ledger.
"""
