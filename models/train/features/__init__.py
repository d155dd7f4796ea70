"""Features that training computes once and reads many times."""
