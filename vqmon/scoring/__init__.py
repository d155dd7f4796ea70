"""Scores frames with ONNX models, each verified against its manifest."""
