"""The 8-bit forms of exported scorers."""
