"""The torch side: networks, their training and their export to ONNX; the daemon never imports it."""
