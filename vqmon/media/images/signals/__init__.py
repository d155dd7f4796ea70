"""Signals: measured facts of pictures, numbers from 0 to 1."""
