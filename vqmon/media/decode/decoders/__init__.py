"""The decoders of one stream, on the CPU and on a GPU, the choice of frames, and what is collected of those."""
