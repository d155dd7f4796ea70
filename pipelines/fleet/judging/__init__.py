"""What an input record leads to: its outcome, the verdicts on it, and the records that are written for it."""
