"""What was dialled: the log is the arbiter.

`transitions` holds the rules (pure), `records` their bytes, `partition` the compacted topic they live in.
"""
