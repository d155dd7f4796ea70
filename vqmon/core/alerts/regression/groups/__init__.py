"""Group rules: many series of one regression rule together."""
