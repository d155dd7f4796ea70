"""One segment becomes one outcome: fetch, decode, score, pool, calibrate."""
