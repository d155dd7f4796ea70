"""The command `vqmon`."""
