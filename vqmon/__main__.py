"""`python -m vqmon` is the command."""

from vqmon.cli import main

main()
