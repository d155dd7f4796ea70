"""What a score is compared with: other renditions at the same moment, the same content at another time."""
