"""Messages as CloudEvents JSON."""
