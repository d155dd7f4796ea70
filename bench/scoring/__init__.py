"""Benches of the scorers: speed and memory."""
