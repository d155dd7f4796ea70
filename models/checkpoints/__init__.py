"""What files of weights hold: reading them without running anything in them, and recognizing the published ones."""
