"""The ledger's protocol, explored exhaustively: every interleaving of a small world, judged by the real code.

`facts` are records of the real ledger as small numbers, `rules` drives the real `LedgerPartition` and `policy` with
them, `world` and `protocol` are what can happen, `invariants` what must not, `explore` walks all of it. `scenarios`
are the bounds that are explored, `mutants` the protocol with one rule taken out.
"""
