"""`python -m ctrlattn`: the command line."""

from ctrlattn.cli import main

main()
