"""Speed and memory, measured beside peers in one run; never a test."""

import os

# ONNX Runtime reports to its maker unless this is set before it is imported
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
