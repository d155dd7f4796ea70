"""Alert rules tried on recorded or simulated series."""
