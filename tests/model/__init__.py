"""The ledger's protocol, explored exhaustively: every interleaving of a small world, judged by the real code.

`facts` are records of the real ledger as small numbers. `knowledge` and `scripts` (on the `stage`) ask the real code:
what a lane knows after a read or an acknowledgement, and what it does next. `world` and `protocol` are everything that
can happen in between, `judge` and `liveness` say what must not, and what must. `explore` walks all of it in the worlds
of `scenarios`; `mutants` are the rules with one taken out.
"""
