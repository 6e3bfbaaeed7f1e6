"""The parts that decide who is sent what, run together under virtual time and a faulty network, by a seed.

`python -m simulation` runs it (docs/delivery-guarantees.md). Nothing that is shipped imports this package.
"""
