"""What belongs to a segment and is listed by a playlist: its reference, and sound in segments of its own."""
