"""Manifests: what a scorer takes and gives, how its output is calibrated, and its licence."""
