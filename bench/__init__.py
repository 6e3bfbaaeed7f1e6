"""Benchmarks: each prints its figures, with peers and the physical limit beside ours."""
