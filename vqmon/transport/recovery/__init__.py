"""Backup, checking and salvage of a history."""
