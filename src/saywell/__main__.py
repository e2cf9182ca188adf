"""`python -m saywell`: the command line, where its program is not on the PATH."""

from saywell.cli import main

main()
