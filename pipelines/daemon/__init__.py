"""The daemon on one host."""
