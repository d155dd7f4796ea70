"""Experiments: compare, plan, frame pairs, background analysis."""
