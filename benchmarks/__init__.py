"""Benchmarks, run from the repository: `python -m benchmarks.quality --help`."""
