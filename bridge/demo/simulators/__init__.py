"""Simulated providers: the vendors' side of the wire, with faults on demand and an exact memory.

They share no code with the adapters they are used against, so that a misreading of a contract shows. `http1`,
`faults`, `webhooks`, `history` and `script` know no vendor; each vendor has one package beside them.
"""
