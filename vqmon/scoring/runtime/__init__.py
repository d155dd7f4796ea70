"""ONNX graphs opened and run."""
