"""Measurements for `saywell bench`, with the harness, tables and plots that `benchmarks/` uses, too."""
