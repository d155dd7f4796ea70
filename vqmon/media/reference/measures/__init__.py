"""Measures of segments: by the filters of libavfilter, of a segment alone, and the names of all."""
