"""Experiments: arms of one source compared, from outcomes to a verdict."""
