"""Alert rules: conditions, state, judge."""
