"""How a graph is run: one file per runtime, the only place that names it."""
