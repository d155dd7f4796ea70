"""What pages show, computed from the history."""
