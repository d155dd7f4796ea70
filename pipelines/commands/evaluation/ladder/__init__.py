"""`vqmon ladder`: encodes a clip at several codecs, rates and sizes, and says whether scorers can be trusted on it."""
