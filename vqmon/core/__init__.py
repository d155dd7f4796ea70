"""Decisions without I/O: standard library and numpy only."""
