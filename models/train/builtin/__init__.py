"""Training of the built-in scorers, beyond the loop that all trained scorers share."""
