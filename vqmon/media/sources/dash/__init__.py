"""MPEG-DASH manifests."""
