"""Ladders of encodes of one clip: curves, BD-rate, convex hull, and whether a scorer can be trusted on that clip."""
