"""Outcomes, alerts and experiments as lines of text."""
