"""Full-reference and no-reference picture measures in numpy, each with its paper's formula and constants."""
