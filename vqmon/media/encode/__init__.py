"""Encoding of an excerpt of a clip at other codecs, rates and sizes, in processes of their own."""
