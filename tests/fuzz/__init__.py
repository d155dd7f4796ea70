"""Fuzzing: structure-aware mutations, a target per parser, and a corpus of what was once found."""
