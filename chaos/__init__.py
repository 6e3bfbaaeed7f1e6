"""Faults on real processes: a run by a seed, its recorded history, and a checker of our promises.

`python -m chaos` runs it (docs/delivery-guarantees.md). Nothing that is shipped imports this package.
"""
