"""One assigned partition: what is restored, observed, judged and written, and how it stops alone."""
