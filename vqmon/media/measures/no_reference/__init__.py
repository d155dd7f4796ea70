"""Measures that need no reference: natural statistics (NIQE, BRISQUE), banding (CAMBI), SI and TI."""
