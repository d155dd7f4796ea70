"""Scorers of every kind: frame, level and composite scorers, opened by name."""
