"""Evaluation and calibration of scorers on pictures and videos with human scores."""
