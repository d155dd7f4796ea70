"""From decoded frames to arrays and numbers: views, clips, colour conversion, signals."""
