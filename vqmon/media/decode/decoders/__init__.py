"""The decoders of one stream, on the CPU and on a GPU, and the choice of the frames that they shall give."""
