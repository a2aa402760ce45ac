"""FLOW 2: provider ─▶ Kafka. `identify` finds whose call it is, `forward` makes one record of one normalised event.

Invariant: a webhook is acknowledged only after its event is stored by all in-sync replicas.
"""
