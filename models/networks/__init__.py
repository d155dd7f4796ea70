"""The published networks in PyTorch."""
