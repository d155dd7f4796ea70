"""Tables of outcomes as Parquet and CSV."""
