"""The sub-commands of `python -m models`."""
