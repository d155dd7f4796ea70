"""Frames: views, clips, resampling, colour, signals."""
