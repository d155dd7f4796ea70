"""Scorers by name: frame values, level words, composites."""
