"""Backup, checking and salvage of a history, and the spool of what it could not take."""
