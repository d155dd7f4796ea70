"""Ladders of clean pictures with full-reference teachers."""
