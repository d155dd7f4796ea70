"""Fetches segments over HTTP(S), from files, decrypted."""
