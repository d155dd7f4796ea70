"""Networks that rate single pictures."""
