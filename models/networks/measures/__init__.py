"""Measures of the literature as networks: LPIPS and DISTS, which need a reference, and BRISQUE, which needs none."""
