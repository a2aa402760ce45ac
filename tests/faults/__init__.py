"""Several daemons under a seeded storm of faults, and the checker that reads afterwards what became of each command.

`python -m tests.faults --seed S --commands N --faults F` runs a campaign; `make faults` does the same.
"""
