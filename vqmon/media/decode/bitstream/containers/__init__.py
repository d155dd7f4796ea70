"""Container formats: detection, demuxing, and what their headers tell that libav does not."""
