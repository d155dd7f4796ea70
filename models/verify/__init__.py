"""Checks that exported files give what the networks give."""
