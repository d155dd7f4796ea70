"""The torch side: networks, their training and their export to ONNX; the daemon never imports it."""

from pathlib import Path

MODELS_FOLDER = Path(__file__).parent
"""Where training configurations, facts of model cards and the built-in bundle lie."""
