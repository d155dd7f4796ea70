"""What accompanies a release: the bill of materials."""
