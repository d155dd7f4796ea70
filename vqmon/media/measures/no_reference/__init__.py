"""Measures that need no reference: natural statistics (NIQE, BRISQUE, IL-NIQE), banding (CAMBI), SI and TI."""
