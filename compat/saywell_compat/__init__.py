"""What the packages for programs of other engines share: names and shapes of theirs, said in Saywell's words.

Nothing here decides, measures or speaks. Saywell imports none of it; `saywell serve` finds the routes and metrics of
`s1_mini` and `smart_backend` by their entry points (`saywell.server.extensions`).
"""
