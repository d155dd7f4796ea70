"""The torch side: networks, their training and their export to ONNX; the daemon never imports it."""

import os
from pathlib import Path

# nothing here reports to anybody: both libraries would, and read this when they are imported
os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

MODELS_FOLDER = Path(__file__).parent
"""Where training configurations, facts of model cards and the built-in bundle lie."""
