"""Comparison of a segment with its reference: alignment in time and in the picture, canvas, measures."""
