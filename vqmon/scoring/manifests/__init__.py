"""What a scorer takes, gives and may be used for."""
