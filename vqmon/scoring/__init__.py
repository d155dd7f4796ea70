"""Frames become numbers: ONNX models behind one checked contract."""
