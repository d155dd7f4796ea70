"""The databases a history lives in."""
