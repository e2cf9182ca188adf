"""`python -m saywell`: the command line, for when the program is not on the PATH."""

from saywell.cli import main

main()
