"""The commands about experiments: compare, plan."""
