"""Charts as SVG and as data."""
