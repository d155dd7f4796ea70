"""mPLUG-Owl2 and the scorers built on it: Q-Align and Compare2Score."""
