"""Learned reference measures on the features of ImageNet networks: LPIPS and DISTS."""
