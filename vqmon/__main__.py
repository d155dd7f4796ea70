"""`python -m vqmon` is the command."""

from vqmon.cli.main import main

main()
