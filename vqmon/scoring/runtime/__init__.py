"""Opens, checks and runs ONNX graphs: sessions, engines, the batcher, shared graphs."""
