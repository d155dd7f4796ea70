"""The sound of a segment: its track, levels, loudness and timeline."""
