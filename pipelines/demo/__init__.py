"""The demo: a stream that degrades, watched until the alert."""
