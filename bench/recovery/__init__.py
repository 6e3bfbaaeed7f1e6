"""How soon sending goes on after each kind of restart, and what a killed sender leaves in doubt.

`python -m bench.recovery [rounds] [sender kills]` (3, 20); see `bench.recovery.__main__`.
"""
