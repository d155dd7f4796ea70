"""Writes networks as ONNX files with their manifests."""
