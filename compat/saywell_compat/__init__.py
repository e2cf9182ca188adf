"""Shared code of the compatibility packages: maps names and formats of other engines to Saywell's.

It contains no logic of its own. Saywell does not import it; `saywell serve` finds the routes and metrics of `s1_mini`
and `smart_backend` by their entry points (`saywell.server.extensions`).
"""
