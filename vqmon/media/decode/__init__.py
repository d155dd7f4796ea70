"""Decoding of segments in sandboxed worker processes."""
