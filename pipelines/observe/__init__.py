"""One segment observed: fetch, decode, score, pool."""
